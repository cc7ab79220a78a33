"""Losses of video networks against plain numpy and the stored values of the released network."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.losses import video
from segjax.training.video_step import RELEASED, video_loss

RNG = np.random.default_rng(0)
FRAME, TARGET = (RNG.uniform(0, 255, (3, 5, 6, 3)).astype(np.float32) for _ in range(2))
FLOW = RNG.normal(0, 3, (3, 5, 6, 2)).astype(np.float32)
ONES = np.ones(3, np.float32)


def test_terms_equal_plain_numpy():
    dx, dy = (lambda x: np.abs(np.diff(x, axis=2))), (lambda x: np.abs(np.diff(x, axis=1)))
    assert np.isclose(video.color(FRAME, TARGET, ONES).mean(), np.abs(FRAME - TARGET).mean() / 255)
    right, below = video.gradient_difference(FRAME, TARGET, ONES)
    assert np.isclose(right.mean(), np.abs(dx(FRAME) - dx(TARGET)).mean())
    assert np.isclose(below.mean(), np.abs(dy(FRAME) - dy(TARGET)).mean())
    right, below = video.flow_smoothness(FLOW, ONES)
    assert np.isclose(right.mean(), dx(FLOW).mean()) and np.isclose(below.mean(), dy(FLOW).mean())


def test_examples_of_weight_0_do_not_count():
    weight = np.float32([1, 0, 1])
    kept = [0, 2]
    all_terms = video_loss(FRAME, FLOW, TARGET, weight, weights=RELEASED)
    some = video_loss(FRAME[kept], FLOW[kept], TARGET[kept], np.ones(2, np.float32), weights=RELEASED)
    np.testing.assert_allclose(all_terms[0], some[0], rtol=1e-6)
    nothing, terms = video_loss(FRAME, FLOW, TARGET, np.zeros(3, np.float32), weights=RELEASED)
    assert nothing == 0 and all(value == 0 for value in terms.values())


def test_total_is_the_weighted_sum_and_unweighted_terms_are_still_told():
    total, terms = video_loss(FRAME, FLOW, TARGET, ONES, weights={"color": 2.0, "smooth": 0.5})
    np.testing.assert_allclose(total, 2 * terms["color"] + 0.5 * terms["smooth"], rtol=1e-6)
    assert set(terms) == {"color", "gradient", "smooth"}


@pytest.mark.parametrize("name", ["sdcnet2d", "sdcnet2d_recon"])
@pytest.mark.parametrize("case", [0, 1])
def test_losses_equal_the_released_ones(name, case, parity):
    stored = np.load(parity / name / f"case{case}.npz")
    frame, flow = (stored[f"out__{key}"].transpose(0, 2, 3, 1) for key in ("warped", "flow"))
    target = stored["in__frames"][:, 2].transpose(0, 2, 3, 1).astype(np.float32)
    total, terms = video_loss(frame, flow, target, np.ones(1, np.float32), weights=RELEASED)
    ours = [terms["color"], terms["gradient"], terms["smooth"], total]
    np.testing.assert_allclose(ours, stored["out__losses"], rtol=1e-5)


def test_perceptual_and_style_equal_plain_numpy():
    a, b = ({"x": RNG.normal(size=(2, 3, 4, 5)), "y": RNG.normal(size=(2, 2, 2, 3))} for _ in range(2))
    weight = np.ones(2, np.float32)
    expected = sum(np.abs(a[k] - b[k]).mean() for k in a)
    np.testing.assert_allclose(video.perceptual(_jax(a), _jax(b), weight), expected, rtol=1e-5)

    def gram(x):
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        return flat.transpose(0, 2, 1) @ flat / np.prod(x.shape[1:])

    expected = sum(np.abs(gram(a[k]) - gram(b[k])).mean() for k in a)
    np.testing.assert_allclose(video.style(_jax(a), _jax(b), weight), expected, rtol=1e-5)


def _jax(maps):
    return {name: jnp.asarray(value, jnp.float32) for name, value in maps.items()}
