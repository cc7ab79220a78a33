"""The composed motion: shifts, the first step, sharpness after several steps, and what stays ignored."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.propagation.carry import COMPOSED, carry, compose, first_state

OPTIONS = dict(first=False, ignore_out_of_view=True)


def constant(u, v, size=(10, 12)):
    return jnp.broadcast_to(jnp.float32([u, v]), (1, *size, 2))


def walk(state, motions, **options):
    for number, motion in enumerate(motions):
        state, ignored = carry(state, motion, **{**OPTIONS, "first": number == 0, **options})
    return state, ignored


def random_state(size=(10, 12), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (1, *size, 3), dtype=np.uint8)
    return image, rng.integers(0, 9, (1, *size), dtype=np.uint8)


def test_composed_integer_shifts_are_their_sum():
    path = compose(constant(1, 0), compose(constant(-3, 2), constant(1, -1)))
    inside = np.s_[:, 2:-2, 4:-4]
    np.testing.assert_array_equal(path[inside], constant(-1, 1)[inside])
    # a pixel from outside ends where the pixel on the border of the previous frame does
    x = np.arange(12)
    for u in (1, -3, 1):  # the end of the previous frame's pixel that each pixel points to
        x = x[np.clip(np.arange(12) + u, 0, 11)]
    np.testing.assert_array_equal(np.arange(12) + path[0, 5, :, 0], x)
    image, label = random_state()
    state, _ = walk(first_state(image, label), [constant(1, -1), constant(-3, 2), constant(1, 0)])
    seen = np.asarray(state.label) != 255
    assert seen.sum() == 8 * 9
    moved_image, moved_label = (np.roll(array, (-1, 1), (1, 2)) for array in (image, label))
    assert (np.asarray(state.image)[seen] == moved_image[seen]).all()
    assert (np.asarray(state.label)[seen] == moved_label[seen]).all()


def test_composition_reads_the_path_where_the_motion_points():
    """u = 0.25 x and path = 0.5 x - 1 give 0.25 x + 0.5 (1.25 x) - 1, as both are linear."""
    x = jnp.arange(12, dtype=jnp.float32)
    linear = lambda slope, offset: jnp.stack(  # noqa: E731
        [jnp.broadcast_to(slope * x + offset, (1, 10, 12)), jnp.zeros((1, 10, 12))], -1
    )
    found = compose(linear(0.25, 0), linear(0.5, -1))
    np.testing.assert_allclose(found[..., :9, 0], linear(0.875, -1)[..., :9, 0], atol=1e-5)


def test_the_first_step_is_that_of_the_chain():
    image, label = random_state()
    motion = jnp.asarray(np.random.default_rng(1).normal(0, 4, (1, 10, 12, 2)), jnp.float32)
    for keep in (True, False):
        one, other = (
            walk(first_state(image, label), [motion], rgb_warp=rgb_warp, ignore_out_of_view=keep)
            for rgb_warp in ("composed", "bilinear")
        )
        np.testing.assert_array_equal(one[0].label, other[0].label)
        np.testing.assert_allclose(one[0].image, other[0].image, atol=1e-3)
        assert [float(share[0]) for share in one[1]] == [float(share[0]) for share in other[1]]


def laplacian_energy(image):
    grey = np.asarray(image, np.float64)[0].mean(-1)[8:-8, 8:-8]
    centre = grey[1:-1, 1:-1]
    around = grey[2:, 1:-1] + grey[:-2, 1:-1] + grey[1:-1, 2:] + grey[1:-1, :-2]
    return np.square(around - 4 * centre).mean()


def test_high_frequencies_that_are_left():
    """One interpolation of a texture loses less than four, and sharper kernels lose less."""
    image, label = random_state((48, 48))
    motions = [constant(0.3, -0.2, (48, 48))] * 4

    def left(steps, rgb_warp):
        state, _ = walk(first_state(image, label), motions[:steps], rgb_warp=rgb_warp, ignore_out_of_view=False)
        return laplacian_energy(state.image) / laplacian_energy(image)

    found = {rgb_warp: left(4, rgb_warp) for rgb_warp in (*COMPOSED, "bilinear")}
    assert 5 * found["bilinear"] < found["composed"]
    assert found["composed"] < found["composed_bicubic"] < found["composed_lanczos"] < 1.0
    # 1.2, -0.8 is 0.2 and 0.2 from whole pixels, so that the fourth composed step is as sharp as such a first one
    once, _ = walk(first_state(image, label), [constant(0.2, 0.2, (48, 48))])
    assert found["composed"] == pytest.approx(laplacian_energy(once.image) / laplacian_energy(image), rel=0.05)


@pytest.mark.parametrize("rgb_warp", ["composed", "bilinear"])
def test_what_a_step_ignores_stays_ignored(rgb_warp):
    image, label = random_state()
    motions = [constant(2, 0), constant(-2, 0)]
    state, ignored = walk(first_state(image, label), motions, rgb_warp=rgb_warp)
    # the first step loses the last two columns, the second one moves them and comes from outside on the other side
    lost = np.array([x >= 12 for x in range(12)]) | (np.arange(12) < 2)
    lost[np.arange(12) - 2 >= 10] = True
    assert ((np.asarray(state.label)[0] == 255) == lost).all() and float(ignored.view[0]) == pytest.approx(2 / 12)
    state, ignored = walk(first_state(image, label), [constant(2, 0), constant(1, 0)], rgb_warp=rgb_warp)
    assert ((np.asarray(state.label)[0] == 255) == (np.arange(12) >= 9)).all()
    assert float(ignored.view[0]) == pytest.approx(1 / 12) and float(ignored.before[0]) == pytest.approx(2 / 12)


def test_a_failed_check_stays_where_later_motion_takes_it():
    image, label = random_state()
    wrong = constant(0, 0).at[:, 4:6, 5:7, 0].set(3.0)  # the way back does not return here
    state, first = carry(first_state(image, label), wrong, first=True, reverse=constant(0, 0), max_cycle_error=1.0)
    assert (np.asarray(state.label)[0, 4:6, 5:7] == 255).all() and float(first.cycle[0]) == pytest.approx(4 / 120)
    state, then = carry(state, constant(1, 0), first=False, reverse=constant(-1, 0), max_cycle_error=1.0)
    assert (np.asarray(state.label)[0, 4:6, 4:6] == 255).all() and float(then.before[0]) == pytest.approx(4 / 120)
    assert (np.asarray(state.label)[0, :, :-1] == 255).sum() == 4


def test_void_of_the_label_comes_once_from_the_labelled_frame():
    image, label = random_state()
    label[0, 3:5, 3:5] = 255
    state, ignored = walk(first_state(image, label), [constant(0.4, 0)] * 5, ignore_out_of_view=False)
    found = np.asarray(state.label)[0] == 255
    assert found[3:5, 1:3].all() and found.sum() == 4 and float(ignored.before[0]) == pytest.approx(4 / 120)


def test_unknown_warp():
    with pytest.raises(ValueError, match="rgb_warp='cubic'; choose one of .*composed_lanczos"):
        carry(first_state(*random_state()), constant(0, 0), first=True, rgb_warp="cubic")
