"""The matrix of a data set against numpy, whatever the batches, padding and devices; the worst and best images."""

import gc

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from segjax.evaluation import evaluate
from tests.evaluation.toy_records import K, batches, by_value, toy_records


@pytest.fixture(scope="module")
def records():
    return toy_records()


def numpy_matrix(pairs):
    matrix = np.zeros((K, K), np.int64)
    for image, label in pairs:
        valid = label != 255
        np.add.at(matrix, (label[valid], image[..., 0][valid] % K), 1)
    return matrix


def numpy_miou(matrix):
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return (np.diag(matrix)[union > 0] / union[union > 0]).mean()


@pytest.mark.parametrize("size", [1, 4, 7, 32])
def test_every_image_counts_once_in_batches_of_any_size(records, size):
    result = evaluate(by_value, batches(records, size), num_classes=K)
    np.testing.assert_array_equal(result.matrix, numpy_matrix(records))
    assert result.matrix.dtype == np.int64 and result.images == len(records) and result.worst == ()
    assert result.scores["miou"] == pytest.approx(numpy_miou(result.matrix))


def test_logits_and_class_ids_give_the_same_matrix(records):
    logits = evaluate(lambda x: jax.nn.one_hot(by_value(x), K), batches(records, 4), num_classes=K)
    np.testing.assert_array_equal(logits.matrix, numpy_matrix(records))


@pytest.mark.parametrize(
    "axes, height",
    [({"data": 8}, 12), ({"data": 4, "space": 2}, 12), ({"data": 2, "space": 4}, 11)],  # 11 rows cannot be split
)
def test_rows_on_eight_devices_give_the_same_result(records, axes, height):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    records = [(image[:height], label[:height]) for image, label in records]
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(jax.sharding.AxisType.Auto,) * len(axes))
    spread = NamedSharding(mesh, PartitionSpec(*axes))
    one = evaluate(by_value, batches(records, 8), num_classes=K, worst=3)
    seen = {}
    watch = lambda record, *maps: seen.setdefault(record, maps)  # noqa: E731
    many = evaluate(jax.jit(by_value), batches(records, 8), num_classes=K, worst=3, sharding=spread, observe=watch)
    assert list(seen) == list(range(len(records)))
    for (image, label), maps in zip(records, seen.values()):
        np.testing.assert_array_equal(maps, (image[..., 0] % K, label))
        assert maps[0].dtype == maps[1].dtype == np.uint8
    np.testing.assert_array_equal(one.matrix, many.matrix)
    assert [score.record for score in one.worst] == [score.record for score in many.worst]
    for a, b in zip(one.worst, many.worst):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.prediction, b.prediction)


def test_best_images_and_those_that_are_asked_for(records):
    mious = [numpy_miou(numpy_matrix([record])) for record in records]
    want = sorted(range(len(records)), key=lambda i: (-mious[i], i))[:5]
    result = evaluate(by_value, batches(records, 4), num_classes=K, best=5, worst=2, keep={3, 17})
    assert [score.record for score in result.best] == want and [score.record for score in result.kept] == [3, 17]
    assert len(result.worst) == 2 and result.best[0].miou >= result.best[-1].miou > result.worst[0].miou
    np.testing.assert_array_equal(result.kept[1].image, records[17][0])


def test_several_outputs_are_counted_apart(records):
    """The logits rank the images, whatever their place in the mapping."""
    outputs = lambda x: {"aux": (by_value(x) + 1) % K, "logits": by_value(x)}  # noqa: E731
    alone = evaluate(by_value, batches(records, 4), num_classes=K, worst=2)
    result = evaluate(jax.jit(outputs), batches(records, 4), num_classes=K, worst=2)
    np.testing.assert_array_equal(result.matrix, alone.matrix)
    assert list(result.others) == ["aux"]
    np.testing.assert_array_equal(result.others["aux"], np.roll(alone.matrix, 1, axis=1))
    assert [score.record for score in result.worst] == [score.record for score in alone.worst]
    for score in result.worst:
        np.testing.assert_array_equal(score.others["aux"], (score.prediction + 1) % K)


@pytest.mark.parametrize("worst", [1, 5, 100])
def test_the_worst_images_are_kept_worst_first(records, worst):
    mious = [numpy_miou(numpy_matrix([record])) for record in records]
    want = sorted(range(len(records)), key=lambda i: (mious[i], i))[:worst]
    result = evaluate(by_value, batches(records, 4), num_classes=K, worst=worst)
    assert [score.record for score in result.worst] == want
    for score in result.worst:
        image, label = records[score.record]
        assert score.miou == pytest.approx(mious[score.record])
        valid = label != 255
        assert score.pixel_accuracy == pytest.approx((image[..., 0] == label)[valid].mean())
        np.testing.assert_array_equal(score.image, image)
        np.testing.assert_array_equal(score.label, label)
        np.testing.assert_array_equal(score.prediction, image[..., 0])


def test_an_image_without_a_valid_pixel_is_no_candidate(records):
    void = (records[0][0], np.full((12, 16), 255, np.uint8))
    result = evaluate(by_value, batches([void, records[20]], 2), num_classes=K, worst=5)
    assert [score.record for score in result.worst] == [1] and result.images == 2


@pytest.fixture
def young_objects():
    """gc.collect() looks at the objects of this test only, which takes a hundredth of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("worst", [0, 2])
def test_memory_is_constant(records, young_objects, worst):
    """While a batch is read, only the one before it and the worst images are kept."""
    before, alive = len(jax.live_arrays()), []

    def watched():
        for batch in batches(records * 4, 4):
            gc.collect()
            alive.append(len(jax.live_arrays()) - before)
            yield batch

    assert evaluate(by_value, watched(), num_classes=K, worst=worst).images == 84
    # a batch: image, label, weight, record, prediction and three counted; a worst image: three pictures
    assert alive[0] == 0 and max(alive) <= 8 + 3 * worst


def test_a_second_evaluation_compiles_nothing(records):
    compiled = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run = jax.jit(lambda images: images[..., 0] % K)
    evaluate(run, batches(records, 4), num_classes=K, worst=2)
    assert compiled  # the listener hears compilations
    compiled.clear()
    evaluate(run, batches(records, 4), num_classes=K, worst=2)
    assert not compiled


def test_progress_counts_images(records):
    seen = []
    evaluate(by_value, batches(records, 8), num_classes=K, progress=seen.append)
    assert seen == [8, 16, 21]
