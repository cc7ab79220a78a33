"""Logits of views: against a numpy loop that follows the protocol literally, and properties any network must have."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax import ops
from segjax.errors import UserError
from segjax.inference import PROTOCOLS, find_protocol, predict, predictor, tile_starts


def context_net(x):
    """Logits that depend on the place in the tile and on the tile's mean, so that every wrong tile or flip shows."""
    h, w = x.shape[1:3]
    ramp = np.stack(np.meshgrid(np.arange(h) / 7.0, np.arange(w) / 5.0, indexing="ij"), -1).astype(np.float32)
    concatenate = np.concatenate if isinstance(x, np.ndarray) else jnp.concatenate  # numpy compiles no program per tile
    return concatenate([x * (1 + ramp[..., :1]), x[..., :1] + ramp[..., 1:], x - x.mean((1, 2), keepdims=True)], -1)


def starts(length, window, overlap):
    """Literally: go on by the stride until a tile reaches the end; that tile is shifted back inside."""
    found, start = [], 0
    while start + window < length:
        found.append(start)
        start += math.ceil(window * (1 - overlap))
    return [*found, length - window]


def oracle(net, images, scales, flip, window, overlap):
    """The protocol as loops over numpy slices; overlap is a Fraction, so the stride is exact."""
    b, h, w, _ = images.shape
    views = []
    for s in scales:
        size = (int(h * s), int(w * s))
        scaled = np.asarray(ops.resize(images, size, antialias=True))
        for mirrored in (False, True) if flip else (False,):
            view = scaled[:, :, ::-1] if mirrored else scaled
            th, tw = size if window is None else (min(int(n * max(s, 1)), m) for n, m in zip(window, size))
            total, count = 0.0, np.zeros((*size, 1))
            corners = [starts(n, t, overlap) for t, n in ((th, size[0]), (tw, size[1]))]
            for y in corners[0]:
                for x in corners[1]:
                    logits = np.asarray(net(view[:, y : y + th, x : x + tw]))
                    total = np.zeros((b, *size, logits.shape[-1])) if isinstance(total, float) else total
                    total[:, y : y + th, x : x + tw] += logits
                    count[y : y + th, x : x + tw] += 1
            mean = total / count
            views.append(np.asarray(ops.resize((mean[:, :, ::-1] if mirrored else mean).astype(np.float32), (h, w))))
    return np.mean(views, axis=0)


def random_images(h, w, b=2):
    return np.random.default_rng(h * 100 + w).normal(size=(b, h, w, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "length, window, overlap, starts",
    [
        (2048, 1024, 1 / 3, [0, 683, 1024]),  # Cityscapes width
        (1024, 1024, 1 / 3, [0]),
        (512, 1024, 1 / 3, [0]),
        (4096, 2048, 1 / 3, [0, 1366, 2048]),
        (1242, 368, 1 / 3, [0, 246, 492, 738, 874]),  # KITTI
        (1800, 900, 1 / 3, [0, 600, 900]),  # 900 * (1 - 1/3) must not become a stride of 601
        (10, 4, 0.0, [0, 4, 6]),
        (5, 1, 0.9, [0, 1, 2, 3, 4]),
    ],
)
def test_tile_starts(length, window, overlap, starts):
    assert tile_starts(length, window, overlap) == starts


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.95))
def test_tiles_cover_the_axis_and_stay_inside(length, window, overlap):
    starts = tile_starts(length, window, overlap)
    size = min(window, length)
    covered = np.zeros(length, int)
    for start in starts:
        assert 0 <= start <= length - size
        covered[start : start + size] += 1
    assert covered.min() == 1 or (covered.min() > 1 and overlap > 0)
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [None, (12, 12), (9, 40), (64, 64)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (1.5,)])
def test_predict_follows_the_protocol(scales, window, flip):
    images = random_images(23, 31)
    got = jax.jit(lambda x: predict(context_net, x, scales=scales, flip=flip, window=window))(images)
    want = oracle(context_net, images, scales, flip, window, Fraction(1, 3))
    assert got.shape == want.shape and got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_whole_image_is_the_network_itself():
    images = jnp.asarray(random_images(17, 29))
    np.testing.assert_array_equal(predict(context_net, images), context_net(images))


def test_a_window_that_covers_the_image_changes_nothing():
    images = jnp.asarray(random_images(17, 29))
    for window in [(17, 29), (100, 30), (17, 1000)]:
        np.testing.assert_array_equal(predict(context_net, images, window=window), predict(context_net, images))


@settings(max_examples=8)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.integers(1, 45), st.floats(0, 0.9), st.booleans())
def test_a_pointwise_network_does_not_see_the_windows(h, w, th, tw, overlap, flip):
    images = random_images(h, w, b=1)
    kernel = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    window = (max(th, h // 6), max(tw, w // 6))
    got = jax.jit(partial(predict, lambda x: x @ kernel, window=window, overlap=overlap, flip=flip))(images)
    np.testing.assert_allclose(got, images @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, (8, 8)])
def test_flip_leaves_a_mirror_symmetric_network_alone(window):
    images = random_images(16, 21)
    net = lambda x: jnp.tanh(x)  # noqa: E731
    np.testing.assert_allclose(
        predict(net, images, flip=True, window=window), predict(net, images, window=window), atol=1e-6
    )


def test_flip_averages_with_the_mirror_image():
    images = random_images(6, 9)
    want = (context_net(images) + context_net(images[:, :, ::-1])[:, :, ::-1]) / 2
    np.testing.assert_allclose(predict(context_net, images, flip=True), want, atol=1e-6)


def test_tiles_run_one_at_a_time():
    """The network appears once in the program however many tiles there are, and no array holds all tiles."""
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    def convolutions(window):
        def net(x):
            return jax.lax.conv(x.transpose(0, 3, 1, 2), jnp.ones((16, 3, 3, 3)), (1, 1), "SAME").transpose(0, 2, 3, 1)

        program = str(jax.make_jaxpr(lambda x: predict(net, x, window=window, flip=True))(images))
        return program.count("conv_general_dilated[")

    assert convolutions((16, 16)) == convolutions(None) == 1


def test_bfloat16_logits_are_averaged_in_float32():
    images = random_images(16, 16)
    out = predict(lambda x: x.astype(jnp.bfloat16), images, window=(8, 8))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, images.astype(jnp.bfloat16).astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"overlap": 1.0}, "overlap"),
        ({"window": (0, 4)}, "window"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        predict(context_net, random_images(8, 8), **options)


def test_logits_of_another_size_are_refused():
    with pytest.raises(ValueError, match="size of its input"):
        predict(lambda x: x[:, ::2, ::2], random_images(8, 8))


def test_predictor_gives_class_ids_and_compiles_once_per_size():
    traces = []

    def apply_fn(variables, x):
        traces.append(x.shape)
        return jnp.stack([x[..., 0], jnp.full(x.shape[:3], variables["threshold"])], -1)

    run = partial(predictor(apply_fn, normalise=lambda x: x.astype(jnp.float32) / 255), {"threshold": np.float32(0.5)})
    dark, bright = np.zeros((1, 4, 6, 3), np.uint8), np.full((1, 4, 6, 3), 200, np.uint8)
    assert run(dark).dtype == jnp.uint8
    assert (run(dark) == 1).all() and (run(bright) == 0).all()
    count = len(traces)
    run(bright)
    assert len(traces) == count
    run(np.zeros((1, 5, 6, 3), np.uint8))
    assert len(traces) > count


def test_rows_spread_over_devices_give_the_same_logits():
    devices = jax.devices()
    if len(devices) < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    images = random_images(14, 18, b=8)
    run = jax.jit(lambda x: predict(context_net, x, window=(8, 8), flip=True, scales=(1.0, 1.5)))
    spread = jax.device_put(images, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    np.testing.assert_allclose(run(spread), run(images), rtol=1e-5, atol=1e-5)
    assert "all-gather" not in run.lower(spread).compile().as_text()


@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_are_averaged_over_views_at_the_size_of_the_image(flip):
    images = random_images(20, 30)
    total, count = 0.0, 0
    for scale in (0.5, 1.0):
        size = tuple(8 * math.ceil(int(n * scale) / 8) for n in (20, 30))
        for mirrored in (False, True)[: 1 + flip]:
            view = ops.resize(images, size, antialias=True)
            logits = context_net(np.asarray(view)[:, :, ::-1] if mirrored else np.asarray(view))
            logits = ops.resize(logits[:, :, ::-1] if mirrored else logits, (20, 30))
            total, count = total + np.asarray(jax.nn.softmax(logits)), count + 1
    run = partial(predict, context_net, scales=(0.5, 1.0), flip=flip, average="probabilities", multiple=8)
    found = jax.jit(run)(images)
    np.testing.assert_allclose(found, total / count, atol=1e-5)


@pytest.mark.parametrize("average, window", [("logits", (7, 9)), ("probabilities", None)])
def test_several_heads_share_the_views(average, window):
    """A tree of logits gives the tree of what each head gives alone, from one call of the network per shape of view."""
    calls = []

    def heads(x):
        calls.append(x.shape)
        return {"fine": jnp.cos(3 * x), "coarse": jnp.concatenate([x, x[..., :1] ** 2], -1)}

    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16, 3)), jnp.float32)
    protocol = dict(scales=(0.5, 1.0), flip=True, window=window, average=average, base_size=(10, 12))
    found = predict(heads, images, **protocol)
    together = len(calls)
    for name in ("fine", "coarse"):
        calls.clear()
        alone = predict(lambda x, name=name: heads(x)[name], images, **protocol)
        np.testing.assert_allclose(found[name], alone, atol=1e-6)
        assert len(calls) == together


def test_base_size_is_where_everything_happens():
    images = random_images(20, 30)
    there = ops.resize(images, (24, 48), method="bicubic", antialias=True)
    expected = ops.resize(predict(context_net, there, window=(16, 16), flip=True), (20, 30), method="nearest")
    found = predict(context_net, images, window=(16, 16), flip=True, base_size=(24, 48))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_runs(name):
    options = find_protocol(name)
    sizes = {"window": (16, 16), "base_size": (16, 40)}
    small = {key: sizes.get(key, value) for key, value in options.items()}
    result = jax.jit(partial(predict, context_net, **small))(random_images(12, 20, b=1))
    assert result.shape[:3] == (1, 12, 20) and np.isfinite(result).all()


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'kitti_multi'"):
        find_protocol("kiti_multi")


def test_images_that_are_not_finite_are_named():
    images = np.zeros((3, 4, 5, 3), np.float32)
    images[1, 2, 3] = np.nan
    images[2, 0, 0, 0] = np.inf
    run = predictor(lambda variables, x: x, normalise=lambda x: x)
    for refused in (lambda x: predict(context_net, x), partial(run, {})):
        with pytest.raises(UserError, match="image 1 of the batch contains 3 values"):
            refused(images)
        assert refused(images[:1]).shape[:3] == (1, 4, 5)
    assert run({}, np.zeros((1, 4, 5, 3), np.uint8)).shape == (1, 4, 5)
    assert jax.jit(partial(predict, context_net))(images).shape[:3] == (
        3,
        4,
        5,
    )  # under jit there is nothing to look at
