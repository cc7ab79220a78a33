import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.crop_schedule import KINDS, WARMUPS, crop_schedule, fit_batches, relative_work
from segjax.errors import UserError

PAPER = dict(epochs=180, crop=(800, 800), batch=16)
SIDES = [400, 480, 560, 640, 720, 800]


def sides(kind, **changes):
    return [shape.crop[0] for shape in crop_schedule(kind, **{**PAPER, **changes})]


def test_the_papers_four_schedules():
    assert sides("coarse2fine") == [side for side in SIDES for _ in range(30)]
    assert sides("coarse2fine+") == SIDES * 30
    assert sides("fine2coarse") == [side for side in SIDES[::-1] for _ in range(30)]
    assert sides("fine2coarse+") == SIDES[::-1] * 30
    assert sides("constant") == [800] * 180


def test_the_papers_batches_and_speed_up():
    shapes = crop_schedule("coarse2fine+", **PAPER, batch_divisor=8)
    assert {s.crop[0]: s.batch for s in shapes} == {400: 64, 480: 40, 560: 32, 640: 24, 720: 16, 800: 16}
    assert 1 / relative_work(shapes, (800, 800)) == pytest.approx(1.7, abs=0.05)  # table 4


def test_sizes_one_above_a_multiple_stay_so():
    assert {
        shape.crop[0] % 8 for shape in crop_schedule("coarse2fine+", epochs=6, crop=(769, 769), batch=8, divisor=8)
    } == {1}


def test_large_batches_need_no_larger_limit():
    assert {shape.batch for shape in crop_schedule("constant", epochs=2, crop=(64, 64), batch=128)} == {128}


def test_warmup_is_at_the_full_crop_and_the_schedule_comes_after():
    """v1: "a large crop size of 800 in the first 20 epochs, and then switch to the fast training schedules"."""
    assert sides("coarse2fine", epochs=8, warmup_epochs=2) == [800, 800, *SIDES]
    assert sides("coarse2fine", warmup_epochs=20)[:20] == [800] * 20
    assert sides("fine2coarse", epochs=8, warmup_epochs=2, warmup="smallest") == [400, 400, *SIDES[::-1]]
    assert sides("constant", epochs=3, warmup_epochs=1, warmup="smallest") == [400, 800, 800]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(16, 90), min_size=1, max_size=12),
    batch_divisor=st.sampled_from([1, 2, 4, 8]),
)
def test_no_batch_grows_beyond_the_samples_of_its_epoch(kind, lengths, batch_divisor):
    shapes = crop_schedule(kind, len(lengths), (800, 800), 16, batch_divisor)
    fitted, cut = fit_batches(shapes, lengths, 16, batch_divisor)
    fits = [
        [n for n in range(batch_divisor, length + 1, batch_divisor) if n <= s.batch]
        for s, length in zip(shapes, lengths)
    ]
    assert fitted == [(shape.crop, max(sizes), 1) for shape, sizes in zip(shapes, fits)]
    changed = [(before, after.batch) for before, after in zip(shapes, fitted) if before != after]
    assert cut == {shape: min(n for other, n in changed if other == shape) for shape, _ in changed}


def test_a_batch_that_has_not_grown_is_not_cut():
    shapes = crop_schedule("constant", 1, (64, 64), 8)
    assert fit_batches(shapes, [5], 8) == (shapes, {})  # the timeline refuses it


@settings(max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    epochs=st.integers(1, 40),
    crop=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    groups=st.integers(1, 5),
    batch_divisor=st.integers(1, 8),
    more=st.integers(0, 64),
    levels=st.integers(1, 8),
    smallest=st.floats(0.05, 1.0),
    divisor=st.sampled_from([1, 8, 16, 32]),
    warmup=st.integers(0, 40),
    at=st.sampled_from(WARMUPS),
)
def test_invariants(kind, epochs, crop, groups, batch_divisor, more, levels, smallest, divisor, warmup, at):
    batch = groups * batch_divisor
    warmup = min(warmup, epochs)
    options = dict(
        crop=crop, batch=batch, levels=levels, smallest=smallest, max_batch=batch + more,
        divisor=divisor, batch_divisor=batch_divisor, warmup=at,
    )  # fmt: skip
    shapes = crop_schedule(kind, epochs=epochs, warmup_epochs=warmup, **options)
    assert len(shapes) == epochs
    assert at != "full" or all(shape[:2] == (crop, batch) for shape in shapes[:warmup])
    full = crop[0] * crop[1]
    for (h, w), size, _ in shapes:
        assert 0 < h <= crop[0] and 0 < w <= crop[1]
        assert (crop[0] - h) % divisor == 0 and (crop[1] - w) % divisor == 0
        assert size % batch_divisor == 0 and batch <= size <= batch + more
        assert size == batch or size * h * w <= batch * full  # no more memory than the full crop
        # and no room for another group of images is left unused
        assert size + batch_divisor > batch + more or (size + batch_divisor) * h * w > batch * full
    pixels = [h * w for (h, w), *_ in shapes[warmup:]]
    if kind == "coarse2fine":
        assert pixels == sorted(pixels)
    if kind.startswith(("coarse2fine", "constant")) and pixels:
        assert pixels[-1] == full
    if kind.startswith("fine2coarse"):
        mirror = crop_schedule(
            kind.replace("fine2coarse", "coarse2fine"), epochs=epochs, warmup_epochs=warmup, **options
        )
        assert shapes[warmup:] == mirror[warmup:][::-1]
    if kind != "constant" and len(pixels) >= levels:
        assert max(pixels) == full  # every crop appears


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(kind="coarse2fin"), "Did you mean 'coarse2fine'"),
        (dict(warmup="smalest"), "crop.warmup='smalest' is not known. Did you mean 'smallest'"),
        (dict(batch_divisor=6), "batch_size=16 must be a multiple of 6 .* try 18"),
        (dict(max_batch=8), "max_batch=8 is below batch_size=16"),
        (dict(smallest=0.0), "smallest=0.0"),
        (dict(warmup_epochs=200), "warmup_epochs=200"),
        (dict(crop=(800,)), "crop.size"),
        (dict(epochs=0), "epochs=0"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        crop_schedule(**{"kind": "coarse2fine", **PAPER, **changes})
