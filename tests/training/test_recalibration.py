"""Population statistics against numpy in float64: any batches, one device and eight, sums that are saved."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import augment, parallel
from segjax.data import Reading
from segjax.data.every_record import Rows, every_image, full_rows
from segjax.models.layers import BatchNorm
from segjax.ops.moments import Moments
from segjax.training.recalibration import Population, changes, make_measurement
from tests.data.fake_source import FakeSource
from tests.tiny_network import Tiny, oracle, variables

IMAGES = np.random.default_rng(1).integers(0, 255, (7, 6, 10, 3), np.uint8) // np.arange(1, 8)[:, None, None, None]


def prepare(batch):
    mean, std = augment.normalisation("imagenet")
    return augment.normalise(batch["image"], mean=mean, std=std)


def rows_of(batch_size):
    return full_rows([(6, 10)] * len(IMAGES), batch_size)


def measured(batch_size, devices):
    mesh = parallel.make_mesh({"data": devices}, jax.devices()[:devices])
    population, rows = Population(), rows_of(batch_size)
    size = rows.records.shape[1]
    measure, fill = make_measurement(Tiny(19), prepare, mesh, rows=size), -size % devices
    for records, counted in zip(rows.records, rows.counted):
        images = np.concatenate([IMAGES[records], np.full((fill, 6, 10, 3), 255, np.uint8)])
        batch = parallel.shard_batch({"image": images}, mesh)
        population.add(measure(parallel.replicate(variables(), mesh), batch), counted)
    return population


@pytest.mark.parametrize("batch_size, devices", [(7, 1), (3, 1), (3, 8), (8, 8)])
def test_statistics_are_those_of_all_images(batch_size, devices):
    """The last batch of 3 has one image that counts; 8 devices get five more rows than it has."""
    rows = rows_of(batch_size)
    expected = oracle(variables(), IMAGES, zip(rows.records, rows.counted))
    found, idle = measured(batch_size, devices).statistics(variables()["batch_stats"])
    assert idle == [] and set(found) == {"norm1", "norm2", "norm_mean"}
    for name, one in expected.items():
        for leaf in ("mean", "var"):
            assert found[name][leaf].dtype == np.float32
            np.testing.assert_allclose(found[name][leaf], one[leaf], rtol=1e-5, atol=1e-6, err_msg=f"{name} {leaf}")


def test_every_image_counts_once_and_fillers_do_not():
    rows = full_rows([(4, 4), (2, 2), (4, 4), (4, 4), (2, 2)], 2)
    assert sorted(rows.records[rows.counted]) == [0, 1, 2, 3, 4]
    assert rows.records.tolist() == [[0, 2], [3, 0], [1, 4]] and rows.counted.tolist() == [
        [True, True],
        [True, False],
        [True, True],
    ]
    assert full_rows([(4, 4)] * 2, 5).records.tolist() == [[0, 1]]
    assert full_rows([(4, 4), (4, 4), (2, 2)], 5).records.tolist() == [[0, 1], [2, 2]]
    assert full_rows([(4, 4), (2, 2)] * 3, 5, limit=4).records.tolist() == [[0, 4], [1, 3]]


def test_nothing_is_left_after_the_last_batch():
    """A stage that was killed between its last batch and its checkpoint has no image to read."""
    source = FakeSource(count=3, sizes=((4, 4),))
    rows = full_rows(source.sizes, 2)
    assert len(list(every_image(source, rows, Reading(num_threads=0), fill=1))) == 2
    none = Rows(rows.records[2:], rows.counted[2:], rows.sizes[2:])
    assert list(every_image(source, none, Reading(), fill=1)) == []


def test_moments_of_parts_are_those_of_the_whole():
    """A large mean, of which E[x^2] - E[x]^2 would leave nothing; calls of one norm; an empty part."""
    x = np.random.default_rng(0).normal(1e4, 0.01, (9, 3))

    def of(part):
        return Moments(len(part), part.mean(0), np.square(part - part.mean(0)).sum(0))

    empty = Moments(0, np.zeros(3), np.zeros(3))
    total = empty + of(x[:2]) + of(x[2:3]) + empty + of(x[3:])
    assert total.count == 9
    np.testing.assert_allclose(total.mean, x.mean(0), rtol=1e-15)
    np.testing.assert_allclose(total.squares / 9, x.var(0), rtol=1e-8)
    assert (empty + empty).count == 0


def test_a_norm_that_is_called_twice_sees_both_maps():
    """As the shortcuts of SwiftNet's pyramid, which all scales share; also under rematerialisation."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = nn.remat(BatchNorm)(train=True, name="norm")
            return norm(x).sum() + norm(2 * x[:, ::2]).sum()

    x = np.random.default_rng(0).normal(3, 1, (2, 4, 5, 3)).astype(np.float32)
    _, new = Twice().apply(Twice().init(jax.random.key(0), x), x, mutable=["batch_moments"])
    found = new["batch_moments"]["norm"]["input"]
    for example, seen in enumerate(x.astype(np.float64)):
        values = np.concatenate([seen.reshape(-1, 3), 2 * seen[::2].reshape(-1, 3)])
        np.testing.assert_allclose(found.mean[example], values.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.squares[example] / found.count, values.var(0), rtol=1e-5)


def test_only_the_measurement_turns_dropout_off_and_keeps_the_statistics():
    module, images = Tiny(19), prepare({"image": jnp.asarray(IMAGES)})
    apply = jax.jit(lambda key, mutable: module.apply(variables(), images, train=True, rngs=key, mutable=mutable),
                    static_argnums=1)  # fmt: skip
    _, new = apply({}, ("batch_moments",))
    assert set(new) == {"batch_moments"}
    assert new["batch_moments"]["norm1"]["input"].mean.shape == (7, 6)
    first, new = apply({"dropout": jax.random.key(0)}, ("batch_stats",))
    other, _ = apply({"dropout": jax.random.key(1)}, ("batch_stats",))
    assert set(new) == {"batch_stats"} and (first.logits != other.logits).any()


def test_a_norm_that_sees_one_value_keeps_its_statistics(tmp_path):
    one = Population({("norm1",): Moments(1, np.ones(6), np.zeros(6)), ("norm2",): Moments(4, np.ones(5), np.ones(5))})
    one.save(tmp_path / "sums.npz", batches=3)
    resumed, note = Population.load(tmp_path / "sums.npz")
    assert note == {"batches": 3} and list(tmp_path.iterdir()) == [tmp_path / "sums.npz"]
    old = jax.device_get(variables()["batch_stats"])
    new, idle = resumed.statistics(old)
    assert sorted(idle) == ["norm1", "norm_mean"]
    np.testing.assert_array_equal(new["norm1"]["var"], old["norm1"]["var"])
    np.testing.assert_array_equal(new["norm2"]["var"], np.full(5, 0.25))


def test_how_far_statistics_moved():
    old = {"a": {"mean": np.zeros(2), "var": np.ones(2)}, "b": {"mean": np.zeros(2), "var": np.ones(2)}}
    new = {"a": {"mean": np.full(2, 4.0), "var": np.full(2, 4.0)}, "b": {"mean": np.zeros(2), "var": np.full(2, 0.25)}}
    moved = changes(old, new)
    assert moved["mean_shift"] == pytest.approx(2 / np.sqrt(2), rel=1e-4)
    assert moved["deviation_ratio"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"[]"])
def test_damaged_sums_are_known(tmp_path, damage):
    path = tmp_path / "sums.npz"
    Population({("norm",): Moments(1, np.ones(6), np.zeros(6))}).save(path, batches=1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="sums.npz is damaged"):
        Population.load(path)
    np.savez(path, note="{}", more=np.ones(3))
    with pytest.raises(ValueError, match="sums.npz is damaged"):
        Population.load(path)
