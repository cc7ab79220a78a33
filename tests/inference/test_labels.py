"""Ids, confidence and the most probable classes, against numpy's softmax and sort of the network's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.data import LabelMap
from segjax.errors import UserError
from segjax.inference.labels import Labels, labeller, labels_of, predictor
from segjax.inference.network import images_at_once
from segjax.inference.views import predict
from segjax.media.clips import Frame
from segjax.media.frame_batches import FilledBatches, predictions
from tests import stand_in

CLASSES = 7


def softmax(scores):
    shares = np.exp(np.float64(scores) - np.float64(scores).max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def expected(scores, k, *, probabilities=False):
    """Labels by a stable sort; of equals, the lower class is first."""
    order = np.argsort(-np.float64(scores), axis=-1, kind="stable")[..., :k]
    shares = np.take_along_axis(np.float64(scores) if probabilities else softmax(scores), order, -1)
    return Labels(order[..., 0], shares[..., 0], order, 255 * shares)


def check(found, want):
    """Compares labels; shares may be rounded the other way only where they lie between two whole numbers."""
    np.testing.assert_array_equal(found.ids, want.ids)
    np.testing.assert_allclose(found.confidence, want.confidence, rtol=1e-5)
    np.testing.assert_array_equal(found.top_ids, want.top_ids)
    np.testing.assert_allclose(found.top_shares, want.top_shares, atol=0.501)
    assert found.confidence.dtype == np.float32 and found.top_shares.dtype == np.uint8


def random_scores(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=3, size=shape).astype(np.float32)


def pictures(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def logits(variables, images):
    """Depends on the pixel and its neighbours to the left and above, so that mirrored and resized views differ."""
    x = images + 0.5 * jnp.roll(images, 1, 2) + 0.25 * jnp.roll(images, 1, 1)
    return 8 * x @ variables


@pytest.fixture(scope="module")
def network():
    palette = np.arange(CLASSES * 3, dtype=np.uint8).reshape(CLASSES, 3)
    classes = LabelMap.identity(tuple(f"class {i}" for i in range(CLASSES)), palette)
    return stand_in.network(logits, classes, jnp.asarray(random_scores(3, CLASSES, seed=2)))


@pytest.mark.parametrize("k", [1, 3, CLASSES])
def test_logits_become_labels(k):
    scores = random_scores(2, 5, 6, CLASSES)
    check(jax.jit(functools.partial(labels_of, confidence=True, top_k=k))(scores), expected(scores, k))


def test_bfloat16_logits_are_exact_before_the_softmax():
    scores = jnp.asarray(random_scores(1, 8, 8, CLASSES), jnp.bfloat16)
    check(labels_of(scores, confidence=True, top_k=3), expected(np.float32(scores), 3))


def test_probabilities_get_no_second_softmax():
    scores = softmax(random_scores(1, 8, 8, CLASSES)).astype(np.float32)
    found = labels_of(scores, probabilities=True, confidence=True, top_k=2)
    check(found, expected(scores, 2, probabilities=True))
    np.testing.assert_array_equal(found.confidence, scores.max(-1))


def test_of_equal_scores_the_lower_class_is_first():
    scores = np.random.default_rng(3).integers(-1, 2, (1, 40, 40, CLASSES)).astype(np.float32)
    scores[0, 0, 0], scores[0, 0, 1] = 0, [-0.0, 0.0, -0.0, 1, 0.0, -0.0, 1]  # equal for argmax, not for lax.top_k
    scores[0, 0, 2] = [-np.inf, 2, -np.inf, 2, -np.inf, -np.inf, -np.inf]  # each class is ranked once all the same
    found = labels_of(scores, confidence=True, top_k=CLASSES)
    check(found, expected(scores, CLASSES))
    np.testing.assert_array_equal(found.top_ids[..., 0], found.ids)
    np.testing.assert_array_equal(found.ids, scores.argmax(-1))


def entropy_of(shares):
    """-sum p log(p) over log(number of classes), 0 log(0) = 0."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(-1) / np.log(shares.shape[-1])


@pytest.mark.parametrize("offset", [0, 5000])
@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_entropy_of_logits(scale, offset):
    scores = scale * random_scores(2, 5, 6, CLASSES) + np.float32(offset)
    found = jax.jit(functools.partial(labels_of, entropy=True))(scores)
    np.testing.assert_allclose(found.entropy, entropy_of(softmax(scores)), rtol=1e-4, atol=2e-6)
    assert found.entropy.dtype == np.float32 and found[1:4] == (None,) * 3


def test_entropy_of_probabilities_and_at_the_ends():
    shares = np.float32(softmax(random_scores(1, 4, 5, CLASSES)))
    shares[0, 0, 0], shares[0, 0, 1] = np.eye(CLASSES)[2], 1 / CLASSES
    found = np.asarray(labels_of(shares, probabilities=True, entropy=True).entropy)
    np.testing.assert_allclose(found, entropy_of(np.float64(shares)), rtol=1e-5, atol=1e-7)
    assert found[0, 0, 0] == 0 and abs(found[0, 0, 1] - 1) < 1e-6
    sure = np.float32([[[[-np.inf, 3, -np.inf]], [[0, 1e4, 0]], [[2, 2, 2]]]])
    np.testing.assert_allclose(labels_of(sure, entropy=True).entropy[0, :, 0], [0, 0, 1], atol=1e-6)
    assert not np.any(labels_of(random_scores(1, 2, 2, 1), entropy=True).entropy)  # a single class is certain


def test_only_what_is_requested_is_computed():
    scores = random_scores(1, 2, 3, CLASSES)
    plain, confident, ranked = labels_of(scores), labels_of(scores, confidence=True), labels_of(scores, top_k=2)
    assert plain[1:] == (None,) * 4 and confident[2:] == (None,) * 3 and ranked.confidence is ranked.entropy is None
    np.testing.assert_array_equal(plain.ids, ranked.top_ids[..., 0])
    assert "exp" not in str(jax.make_jaxpr(labels_of)(scores))


def test_more_than_255_classes_need_wider_ids():
    scores = random_scores(1, 2, 3, 300)
    found = labels_of(scores, top_k=2)
    assert found.ids.dtype == found.top_ids.dtype == np.int32
    np.testing.assert_array_equal(found.top_ids, expected(scores, 2).top_ids)


def test_no_copy_of_the_scores_is_sorted():
    """Scores of 65 classes at 1024x2048 take 545 MB; the labels must not take as much again."""
    shape = jax.ShapeDtypeStruct((1, 64, 128, 65), jnp.float32)
    run = functools.partial(labels_of, confidence=True, top_k=5)
    program = str(jax.make_jaxpr(run)(shape))
    assert "reduce[" in program and "top_k[" not in program and "sort[" not in program
    assert jax.jit(run).lower(shape).compile().memory_analysis().temp_size_in_bytes < 64 * 128 * 65 * 4


@pytest.mark.parametrize(
    "views",
    [
        {},
        {"flip": True},
        {"scales": (0.5, 1.0)},
        {"window": (8, 8), "flip": True},
        {"scales": (0.5, 1.0), "flip": True, "average": "probabilities"},
        {"base_size": (16, 24), "average": "probabilities"},
    ],
    ids=str,
)
def test_views_are_averaged_before_the_softmax(network, views):
    images = pictures(1, 13, 18)
    scores = predict(functools.partial(logits, network.variables), images / np.float32(255), **views)
    found = network.labeller(confidence=True, top_k=3, entropy=True, **views)(images)
    want = expected(np.asarray(scores), 3, probabilities=views.get("average") == "probabilities")
    np.testing.assert_allclose(found.confidence, want.confidence, rtol=1e-4)
    shares = np.float64(scores) if views.get("average") == "probabilities" else softmax(scores)
    np.testing.assert_allclose(found.entropy, entropy_of(shares), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.top_shares, want.top_shares, atol=0.55)
    assert (np.asarray(found.top_ids) == want.top_ids).mean() > 0.999  # two programs round differently
    np.testing.assert_array_equal(found.ids, found.top_ids[..., 0])
    assert (np.asarray(found.ids) == network.predictor(**views)(images)).mean() > 0.999
    assert (np.diff(np.sort(found.top_ids, axis=-1)) > 0).all()  # no class twice
    assert (np.asarray(found.confidence) <= 1).all() and (np.asarray(found.confidence) >= 1 / CLASSES).all()


def test_one_forward_pass_gives_everything(network):
    calls = []

    def counted(variables, images):
        jax.debug.callback(lambda: calls.append(images.shape))
        return logits(variables, images)

    run = labeller(counted, network.variables, normalise=lambda x: x / 255, confidence=True, top_k=3)
    found = jax.block_until_ready(run(pictures(1, 4, 6)))
    jax.effects_barrier()
    assert calls == [(1, 4, 6, 3)] and found.confidence.shape == (1, 4, 6) and found.top_ids.shape == (1, 4, 6, 3)


def test_class_ids_are_those_of_the_labeller(network):
    images = pictures(2, 5, 7)
    plain = predictor(logits, normalise=lambda x: x.astype(jnp.float32) / 255)
    np.testing.assert_array_equal(plain(network.variables, images), network.labeller(top_k=2)(images).ids)


@pytest.mark.parametrize("top_k", [-1, CLASSES + 1])
def test_a_top_k_beyond_the_classes_is_refused(network, top_k):
    with pytest.raises(UserError, match=f"top_k={top_k} must be from 0 to {CLASSES}, the number of classes"):
        network.labeller(top_k=top_k)
    with pytest.raises(ValueError, match="top_k"):
        labels_of(random_scores(1, 1, 1, CLASSES), top_k=top_k)


@pytest.mark.parametrize("batch", [8, 6, 1])
def test_local_devices_share_a_batch(network, batch):
    images = pictures(batch, 24, 32)
    label = network.labeller(confidence=True, top_k=3, entropy=True, flip=True, scales=(1.0, 1.5))
    found = label(images)
    assert len(found.ids.sharding.device_set) == batch  # of the 8 devices of the tests
    alone = Labels(*map(np.concatenate, zip(*(label(images[i : i + 1]) for i in range(batch)))))
    assert (np.asarray(found.ids) == alone.ids).mean() >= 0.9999
    assert (np.asarray(found.top_ids) == alone.top_ids).mean() >= 0.9999
    np.testing.assert_allclose(found.confidence, alone.confidence, rtol=1e-5)
    assert np.abs(np.int16(found.top_shares) - alone.top_shares).max() <= 1


def test_devices_exchange_nothing(network):
    scores = parallel.over_local_devices(lambda variables, x: x + variables, jnp.float32(1))(random_scores(8, 4, 5, 6))
    run = jax.jit(functools.partial(labels_of, confidence=True, top_k=3))
    program = run.lower(scores).compile().as_text()
    assert "num_partitions=8" in program and "all-" not in program and "collective" not in program


def test_images_that_are_not_finite_are_named_on_several_devices_too(network):
    images = np.zeros((8, 4, 5, 3), np.float32)
    images[6, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="image 6 of the batch contains 1 values"):
        network.labeller()(images)


def test_labels_of_incomplete_batches_and_several_sizes(network):
    sizes = [(6, 8)] * 11 + [(5, 7)] * 3
    frames = [Frame(str(i), i, pictures(*size, seed=i)) for i, size in enumerate(sizes)]
    groups = [frames[:8], frames[8:11], frames[11:]]
    label = network.labeller(confidence=True, top_k=2, entropy=True)
    seen = list(predictions(FilledBatches(label, 8), groups))
    assert [group for group, _ in seen] == groups
    for group, labels in seen:
        assert isinstance(labels, Labels) and all(isinstance(x, np.ndarray) and len(x) == len(group) for x in labels)
        for frame, *one in zip(group, *labels, strict=True):
            scores = logits(network.variables, frame.image[None] / np.float32(255))
            *others, entropy = map(np.asarray, one)
            check(Labels(*others), Labels(*(x[0] for x in expected(np.asarray(scores), 2)[:4])))
            np.testing.assert_allclose(entropy, entropy_of(softmax(scores))[0], rtol=1e-4, atol=1e-6)


def test_sizes_that_the_network_refuses_are_passed_on():
    def picky(variables, images):
        if images.shape[1] < 6:
            raise UserError("too low")
        return images @ variables

    label = labeller(picky, jnp.eye(3), normalise=lambda x: x / 255, confidence=True)
    groups = [
        [Frame(f"{i}", i, pictures(height, 8)) for i in range(count)] for height, count in ((6, 8), (5, 8), (6, 2))
    ]
    refused = []
    seen = list(predictions(FilledBatches(label, 8), groups, on_error=lambda *what: refused.append(what)))
    assert [group for group, _ in seen] == [groups[0], groups[2]] and len(seen[1][1].confidence) == 2
    assert [(group, str(error)) for group, error in refused] == [(groups[1], "too low; the image is 8x5")]


def test_the_batch_of_a_command(caplog):
    assert images_at_once(None) == 8 and images_at_once(16) == 16 and not caplog.records
    assert images_at_once(6) == 6
    assert caplog.messages == ["a batch of 6 uses 6 of 8 devices; a multiple of 8 uses all"]


@pytest.mark.parametrize("views", [{}, dict(flip=True, average="probabilities")])
def test_the_best_of_some_classes_by_its_place_among_them(views):
    """The average is that of all classes, of which only these are compared."""
    some, images = (5, 0, 3), pictures(2, 6, 8)
    mix = random_scores(3, CLASSES)
    options = dict(normalise=lambda x: jnp.float32(x) / 255, **views)
    scores = np.asarray(predict(lambda x: logits(mix, x), jnp.float32(images) / 255, **views))
    found = predictor(logits, classes=some, **options)(mix, images)
    np.testing.assert_array_equal(found, scores[..., list(some)].argmax(-1))
    assert (np.asarray(some)[found] != scores.argmax(-1)).mean() > 0.2
