import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.training.schedules import make_schedule


def values(schedule, steps):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps)))


def test_poly_per_step():
    found = values(make_schedule("poly", base_lr=0.02, total_steps=50, power=0.9), 50)
    np.testing.assert_allclose(found, [0.02 * (1 - i / 50) ** 0.9 for i in range(50)], rtol=1e-5)


def test_poly_per_epoch_with_epochs_of_different_lengths():
    lengths = [3, 1, 5, 2]
    starts = np.cumsum([0, *lengths[:-1]])
    found = values(make_schedule("poly", base_lr=1.0, total_steps=11, epoch_starts=starts, per="epoch", power=2.0), 11)
    expected = np.repeat([(1 - e / 4) ** 2 for e in range(4)], lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scl_poly_of_the_release_restarts_at_epoch_100():
    # reference: e < 100: lr (1 - e/175); e >= 100: lr (1 - (e - 100)/75)^1.5; 0.000434 before the jump to 0.001
    starts = np.arange(175) * 2
    schedule = make_schedule(
        "scl_poly", base_lr=0.001, total_steps=350, epoch_starts=starts, per="epoch", restart_epoch=100
    )
    found = values(schedule, 350)[::2]
    e = np.arange(175)
    expected = 0.001 * np.where(e < 100, 1 - e / 175, (1 - np.maximum(e - 100, 0) / 75) ** 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-10)
    assert found[99] == pytest.approx(0.000434, abs=5e-7) and found[100] == pytest.approx(0.001)


def test_scl_poly_per_step_restarts_at_the_epochs_first_step():
    schedule = make_schedule(
        "scl_poly", base_lr=1.0, total_steps=20, epoch_starts=[0, 5, 8, 12], restart_epoch=2, rescale=0.5, power=2.0
    )
    t = np.arange(20) / 20
    later = np.maximum(t - 0.4, 0) / 0.6
    np.testing.assert_allclose(
        values(schedule, 20), np.where(np.arange(20) < 8, (1 - t) ** 2, 0.5 * (1 - later) ** 1.5), rtol=1e-5
    )


def test_cosine_ends_at_final():
    found = values(make_schedule("cosine", base_lr=4e-4, total_steps=40, final=0.1), 41)
    t = np.minimum(np.arange(41) / 40, 1)
    np.testing.assert_allclose(found, 4e-4 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * t))), rtol=1e-5)


def test_warmup_is_a_line_on_top_of_the_schedule():
    found = values(make_schedule("poly", base_lr=1.0, total_steps=20, power=1.0, warmup_steps=4, warmup_start=0.2), 20)
    ramp = np.minimum((np.arange(20) + 1) / 4, 1)
    np.testing.assert_allclose(found, (1 - np.arange(20) / 20) * (0.2 + 0.8 * ramp), rtol=1e-6)


@pytest.mark.parametrize("total", [3, 7, 49, 1560])
def test_poly_is_zero_and_not_nan_at_its_end_however_the_division_rounds(total):
    found = values(make_schedule("poly", base_lr=1.0, total_steps=total), total + 2)
    assert (found[total:] == 0).all() and np.isfinite(found).all()


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["constant", "poly", "cosine"]),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    per=st.sampled_from(["step", "epoch"]),
    warmup=st.integers(0, 8),
)
def test_any_schedule_stays_between_zero_and_base_and_never_rises_after_warmup(kind, lengths, per, warmup):
    total = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    schedule = make_schedule(
        kind, base_lr=0.5, total_steps=total, epoch_starts=starts, per=per, warmup_steps=warmup
    )  # also beyond its end
    found = values(schedule, total + 3)
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 0.5).all()
    assert found[0] > 0
    assert (np.diff(found[max(warmup - 1, 0) :]) <= 1e-7).all()


def test_steps_multiply_the_rate_at_regular_steps():
    """GSVNet: 0.992 every 100 steps."""
    schedule = make_schedule("steps", 0.01, 1000, factor=0.992, every=100)
    found = [float(schedule(step)) for step in (0, 99, 100, 199, 200, 999)]
    np.testing.assert_allclose(found, [0.01 * 0.992**n for n in (0, 0, 1, 1, 2, 9)], rtol=1e-6)
    by_epoch = make_schedule("steps", 1.0, 12, [0, 4, 8], per="epoch", factor=0.5, every=2)
    assert [float(by_epoch(step)) for step in (0, 7, 8)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(kind="polly"), "Did you mean 'poly'"),
        (dict(kind="cosine", power=2.0), "power means nothing to the 'cosine'"),
        (dict(kind="poly", restart_epoch=1), "restart_epoch means nothing"),
        (dict(kind="poly", per="day"), "per='day'"),
        (dict(kind="poly", per="epoch"), "first step of each epoch"),
        (dict(kind="scl_poly", epoch_starts=[0, 5]), "needs restart_epoch"),
        (dict(kind="scl_poly", epoch_starts=[0, 5], restart_epoch=2), "inside the 2 epochs"),
        (dict(kind="steps", factor=0.5), "needs factor, and every"),
        (dict(kind="steps", every=5), "needs factor, and every"),
        (dict(kind="cosine", every=5), "every means nothing to the 'cosine'"),
        (dict(kind="poly", warmup_steps=-1), "warmup_steps=-1"),
        (dict(kind="poly", power=-1.0), "power=-1.0 must be a number of 0 or more"),
    ],
)
def test_wrong_settings_are_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        make_schedule(base_lr=1.0, total_steps=10, **options)
