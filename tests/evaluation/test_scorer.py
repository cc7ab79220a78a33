"""The scores of a network on a source: every image once, on any mesh, by variables that may change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.evaluation import Evaluation, Scorer, headline, per_class
from tests.data.fake_source import FakeSource


@jax.jit
def predict(shift, images):
    """The true class of a `FakeSource`, plus a shift."""
    images = images.astype(jnp.int32)
    return (images[..., 0] // 4 + images[..., 1] // 4 + images[..., 2] + shift) % 4


@pytest.mark.parametrize("axes", [{"data": 1}, {"data": 4}, {"data": 2, "space": 2}])
def test_every_image_counts_once(axes):
    source = FakeSource(count=7, sizes=((24, 32), (16, 32)))
    mesh = parallel.make_mesh(axes, jax.devices()[: int(np.prod(list(axes.values())))])
    scorer = Scorer(predict, source, mesh=mesh, batch_size=3)
    seen, done = {}, []
    right = scorer(0, worst=2, observe=lambda record, *maps: seen.setdefault(record, maps), progress=done.append)
    assert right.images == 7 and len(right.worst) == 2 and done[-1] == 7 and sorted(seen) == list(range(7))
    labels = np.concatenate([source[i].label.ravel() for i in range(7)])
    np.testing.assert_array_equal(right.matrix, np.diag(np.bincount(labels[labels != 255], minlength=4)))
    wrong = scorer(1)
    np.testing.assert_array_equal(wrong.matrix, np.roll(right.matrix, 1, axis=1))
    assert headline(right) == {"miou": 1.0, "pixel_accuracy": 1.0, "mean_accuracy": 1.0}
    assert headline(wrong)["miou"] == 0.0


def test_a_limit_takes_images_that_are_far_apart():
    scorer = Scorer(
        predict, FakeSource(count=9), mesh=parallel.make_mesh({"data": 1}, jax.devices()[:1]), batch_size=4, limit=3
    )
    seen = []
    assert scorer(0, observe=lambda record, *maps: seen.append(record)).images == 3
    assert seen == [0, 3, 6]


def test_a_class_that_no_image_has_gets_no_number():
    matrix = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert per_class(Evaluation(matrix, 1, 0.1), ("road", "sky", "car")) == {"road": 0.75, "sky": 0.8, "car": None}
