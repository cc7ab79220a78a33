"""The search for what fits, with a compiler whose memory is a formula."""

import dataclasses

import pytest

from segjax.commands.plan import text_of
from segjax.stages.fitting import fitting, plan
from segjax.stages.rehearsal import Request

GIB = 2**30
REQUEST = Request(config="vplr:cityscapes", topology="v5e:4x4")


def compiler(
    *, has, each=1.0, fixed=2.0, remat=0.5, bend=0.0, chips=4, unknown=False, what="train", height=64, **sample
):
    """Returns (compile, requests): memory in GiB is fixed + images of a chip * each, `remat` of it with remat="full".

    bend: GiB per square of the images of a chip. unknown: whether a refusal does not name the memory.
    sample: keys of the report that are other than those of images.
    """
    seen = []

    def compile(request):
        seen.append(request)
        mesh = request.changes.get("mesh", {"data": chips, "space": 1})
        batch = request.batch or 16
        images = batch / (mesh["data"] * mesh["space"])
        recomputed = request.changes.get("remat", False) == "full"
        needed = fixed + (images * each + images**2 * bend) * (remat if recomputed else 1)
        fits = needed <= has
        known = fits or not unknown
        memory = {"parameters": int(fixed * GIB), "needed": int(needed * GIB) if known else None}
        return {
            "config": request.config, "what": what, "stage": "train", "topology": "v5e:2x2", "chip": "v5e",
            "chips": chips, "mesh": mesh, "batch": batch, "multiple": mesh["data"], "size": [height, 64],
            "unit": "images", "frames": 1, "splits_height": True, **sample,
            "network": "net", "classes": 19, "dtype": "bfloat16", "remat": request.changes.get("remat", False),
            "bn_groups": 1,
            "compile_seconds": 1.0, "memory": {**memory, "has": int(has * GIB), "fits": fits},
        }  # fmt: skip

    return compile, seen


def test_what_fits_is_compiled_once():
    compile, seen = compiler(has=6)
    report, tried = plan(REQUEST, compile=compile)
    assert report["memory"]["fits"] and tried == [] and seen == [REQUEST]
    assert text_of(report, tried).endswith("\nit fits")


def test_each_kind_of_change_is_tried_and_the_largest_batch_found():
    compile, _ = compiler(has=5)  # of 4 GiB beside the fixed 2, 3 fit: 12 images
    report, tried = plan(REQUEST, compile=compile)
    assert [name for name, _ in tried] == ["remat='full'", "batch_size=12", "mesh data=2 space=2"]
    assert list(fitting(tried)) == ["remat='full'", "batch_size=12"]
    text = text_of(report, tried)
    assert "it does not fit; with remat='full' (4.0 GiB), or batch_size=12 (5.0 GiB) it does" in text
    assert "tried, and does not fit either: mesh data=2 space=2 (6.0 GiB)" in text


def test_a_batch_that_was_expected_to_fit_and_does_not_is_corrected():
    compile, _ = compiler(has=7, fixed=1, each=0.5, bend=0.5)  # 11.0 GiB for 4 images of a chip, 7.0 for 3
    _, tried = plan(REQUEST, compile=compile)
    assert max(one["batch"] for name, one in tried if name.startswith("batch") and one["memory"]["fits"]) == 12


def test_batches_stay_multiples_of_the_devices_and_below_what_does_not_fit():
    compile, seen = compiler(has=2.9)
    _, tried = plan(REQUEST, compile=compile)
    assert not fitting(tried) and all(request.batch % 4 == 0 for request in seen)
    assert "it does not fit\n" in text_of(*plan(REQUEST, compile=compile))
    assert "take a larger slice" in text_of(*plan(REQUEST, compile=compile))


def test_without_a_figure_the_batch_is_halved():
    compile, _ = compiler(has=3.5, unknown=True)
    report, tried = plan(REQUEST, compile=compile)
    assert [one["batch"] for name, one in tried if name.startswith("batch")] == [8, 4]
    assert "batch_size=4 (3.0 GiB) it does" in text_of(report, tried)
    assert "batch_size=8 (more than a chip has)" in text_of(report, tried)


def test_the_height_is_split_only_if_it_can_be():
    compile, _ = compiler(has=5, height=63)
    assert not any(name.startswith("mesh") for name, _ in plan(REQUEST, compile=compile)[1])
    compile, _ = compiler(has=5, splits_height=False)
    assert not any(name.startswith("mesh") for name, _ in plan(REQUEST, compile=compile)[1])
    compile, _ = compiler(has=5, chips=1)
    assert not any(name.startswith("mesh") for name, _ in plan(REQUEST, compile=compile)[1])


def test_a_height_that_is_not_split_is_named():
    compile, _ = compiler(has=50, height=63)
    report, tried = plan(dataclasses.replace(REQUEST, changes={"mesh": {"data": 2, "space": 2}}), compile=compile)
    assert "the height 63 is no multiple of space=2: devices along this axis compute the same" in text_of(report, tried)
    assert "no multiple" not in text_of(*plan(REQUEST, compile=compile))


def test_a_prediction_has_its_batch_only():
    compile, _ = compiler(has=5, what="predict")
    assert [name for name, _ in plan(REQUEST, compile=compile)[1]] == ["batch=12"]


def test_samples_of_video_are_named():
    compile, _ = compiler(has=50, unit="snippets", frames=5)
    assert "net, 16 snippets of 5 frames of 64x64, 19 classes, bfloat16" in text_of(*plan(REQUEST, compile=compile))


@pytest.mark.parametrize("tries", [0, 1, 2])
def test_the_number_of_compilations_is_limited(tries):
    compile, seen = compiler(has=2.9)
    _, tried = plan(REQUEST, tries=tries, compile=compile)
    assert len(tried) == tries and len(seen) == 1 + tries
