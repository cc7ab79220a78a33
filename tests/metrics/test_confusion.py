import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.metrics import confusion, confusion_matrix
from segjax.ops import made_for
from tests.losses.test_losses_on_devices import collectives

K = 7


def case(seed=0, shape=(4, 9, 14), ignore_label=255):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, labels, rng.integers(0, K, shape)).astype(np.int32)
    labels[rng.random(shape) < 0.2] = ignore_label
    return prediction, labels


def by_hand(prediction, labels, ignore_label=255):
    matrix = np.zeros((K, K), np.int64)
    for truth, guess in zip(labels.ravel(), prediction.ravel()):
        if truth != ignore_label and 0 <= truth < K and 0 <= guess < K:
            matrix[truth, guess] += 1
    return matrix


@pytest.fixture(params=["histogram", "one hot"])
def way(request):
    """The CPU's way and the accelerators'."""
    with made_for("cpu" if request.param == "histogram" else "gpu"):
        yield request.param


@pytest.mark.parametrize("shape", [(4, 9, 14), (9, 14), (2, 2, 5, 1), (1, 1)])
def test_counts_are_exact(way, shape):
    prediction, labels = case(1, shape)
    matrix = confusion_matrix(prediction, labels, K)
    assert matrix.dtype == jnp.int32
    np.testing.assert_array_equal(matrix, by_hand(prediction, labels))


def test_what_is_no_class_does_not_count(way):
    prediction, labels = case(2, ignore_label=3)
    labels[0, 0, :5] = 99
    prediction[0, 1, :5] = K
    prediction[0, 2, :5] = -1
    matrix = confusion_matrix(prediction, labels, K, ignore_label=3)
    np.testing.assert_array_equal(matrix, by_hand(prediction, labels, 3))
    assert not np.asarray(matrix)[3].any()


def test_padding_rows_do_not_count(way):
    prediction, labels = case(3)
    matrix = confusion_matrix(prediction, labels, K, weight=np.float32([1, 0, 1, 0]))
    np.testing.assert_array_equal(matrix, by_hand(prediction[::2], labels[::2]))


@pytest.mark.parametrize("piece", [1, 50, 100, 300])
def test_pieces_of_the_width_add_up(piece, monkeypatch):
    monkeypatch.setattr(confusion, "PIECE", piece)
    prediction, labels = case(4)
    counted = np.where(labels == 255, K, labels).astype(np.int32)
    np.testing.assert_array_equal(confusion.one_hot_counts(prediction, counted, K), by_hand(prediction, labels))


def test_one_class_counts_beyond_what_float32_can_hold(way):
    labels = np.zeros((9, 2048, 1024), np.uint8)  # 2^24 is 16.8 million, this is 18.9
    prediction = jnp.asarray(labels)
    assert confusion_matrix(prediction, labels, 1)[0, 0] == labels.size


def test_works_under_vmap(way):
    prediction, labels = case(5)
    matrices = jax.jit(jax.vmap(lambda p, y: confusion_matrix(p, y, K)))(prediction, labels)
    np.testing.assert_array_equal(matrices, [by_hand(*pair) for pair in zip(prediction, labels)])


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "space": 4}], ids=["batch", "batch and height"])
def test_same_counts_on_eight_devices(way, axes):
    prediction, labels = case(6, (8, 8, 10))
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))
    spread = jax.device_put((prediction, labels), NamedSharding(mesh, P(*axes)))
    count = jax.jit(lambda p, y: confusion_matrix(p, y, K), out_shardings=NamedSharding(mesh, P()))
    compiled = count.lower(*spread).compile()
    np.testing.assert_array_equal(compiled(*spread), by_hand(prediction, labels))
    used = collectives(compiled.as_text())
    assert used
    for operation, shape in used:  # sums of matrices, never a map of pixels
        assert operation == "all-reduce" and np.prod(shape) <= K * K + 1, (operation, shape)
