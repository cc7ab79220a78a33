"""The stage "propagate" on the synthetic street: what it writes, kill -9, and a training that reads it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import parallel
from segjax.data import ImageCrops, Reading, build_dataset, open_source, train_batches
from segjax.data.derived import PROVENANCE
from segjax.data.image_files import decode_mask
from segjax.data.plans import make_plan, parts_of
from segjax.data.record_shards import RecordShards
from segjax.errors import UserError
from segjax.metrics import iou_scores
from segjax.propagation.propagator import Propagator
from segjax.stages import propagate as stage
from segjax.stages import run_recipe
from segjax.stages.dataset import read_dataset
from segjax.stages.extra_data import open_extras, read_extras
from segjax.stages.run_plan import make_run_plan, read_plan
from segjax.stages.stage import Context
from segjax.stages.write_records import write_records

ROOT = Path(__file__).resolve().parent.parent.parent
STREET = dict(height=48, width=64, train=3, validation=1, test=1, frames=6, labelled_every=3)


def config(street_dir, **propagate):
    options = dict(method="flow", flow="dis", steps=2, shard_frames=2, batch_size=4, cut_histogram=0.0)
    return ConfigDict(
        dict(
            seed=0,
            stages=("propagate",),
            dataset=dict(name="synthetic_street", options=STREET, train="train", data_dir=str(street_dir)),
            propagate={"kind": "propagate", **options, **propagate},
        )
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory, street_dir):
    """(workdir, report) of one run."""
    workdir = tmp_path_factory.mktemp("propagated")
    return workdir, run_recipe(config(street_dir), workdir=workdir)["propagate"]


def test_report_records_and_sheets(done, street_dir):
    workdir, report = done
    index = open_source(
        "synthetic_street", "train", data_dir=street_dir, builder_options=STREET, labelled_only=False
    ).index
    per_sequence = index.labelled.reshape(3, 6)
    reach = {
        step: sum(per_sequence[s, f] and 0 <= f + step < 6 for s in range(3) for f in range(6))
        for step in (1, -1, 2, -2)
    }
    assert report["carried"] == {f"{step:+d}": count for step, count in reach.items() if count}
    total = sum(reach.values())
    assert report["records"] == {"jp": total, "lp": total} and report["frames_per_second"] > 0
    assert sum(report["ends"].values()) > 0 and report["warp_frames_per_second"] > 0
    assert {f"step{step}.png" for step in report["carried"]} == {
        p.name for p in (workdir / "propagate/sheets").iterdir()
    }
    jp, lp = (open_source(report["dataset"], mode) for mode in ("jp", "lp"))
    assert jp.names == lp.names and len(jp) == total
    real = {(s, f): i for i, (s, f) in enumerate(zip(index.sequences, index.frames))}
    video = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=STREET, labelled_only=False)
    for i in range(0, total, 5):
        a, b, raw = jp[i], lp[i], lp._reader("lp")[i]
        assert (a.label == b.label).all() and a.name == b.name
        frame = video[real[b.sequence, b.frame]]
        assert (b.image == frame.image).all() and (a.image != frame.image).any()
        assert int(raw["source_frame"]) + int(raw["step"]) * int(raw["direction"]) == b.frame
        assert raw["method"] == b"flow" and raw["source_name"].decode() in b.name and len(raw["config"]) == 12
        assert set(np.unique(decode_mask(raw["label"], "label"))) <= {*range(19), 255}


def test_carried_labels_are_mostly_right(done, street_dir):
    """Against the exact labels that the data set keeps of every frame."""
    workdir, report = done
    options = {**STREET, "labelled_every": 1}
    truth = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=options)
    row = {name: i for i, name in enumerate(truth.names)}
    jp = open_source(report["dataset"], "jp")
    right = []
    for record in (jp[i] for i in range(len(jp))):
        label = truth[row[f"{record.sequence}_{record.frame:03d}"]].label
        known = (record.label != 255) & (label != 255)
        right.append((record.label == label)[known].mean())
    assert np.mean(right) > 0.85


def test_a_finished_stage_is_skipped_and_other_settings_are_refused(done, street_dir):
    workdir, report = done
    again = run_recipe(config(street_dir), workdir=workdir)["propagate"]
    assert again["finished"] == report["finished"]
    (workdir / "propagate/report.json").rename(workdir / "propagate/kept.json")
    try:
        with pytest.raises(UserError, match=r"other settings \(steps: "):
            run_recipe(config(street_dir, steps=1), workdir=workdir)
    finally:
        (workdir / "propagate/kept.json").rename(workdir / "propagate/report.json")


def test_truth_writes_the_labels_that_the_dataset_stores(done, street_dir, tmp_path):
    """The same frames as those of a propagation, with real images; of a split that lost labels, too."""
    report = run_recipe(config(street_dir, method="truth", sheet_rows=0), workdir=tmp_path / "all")["propagate"]
    assert report["carried"] == done[1]["carried"] and not any(map(any, map(dict.values, report["ignored"].values())))
    options = {**STREET, "labelled_every": 1}
    every = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=options)
    half = config(street_dir, method="truth", split="train::2", steps=3)
    few = run_recipe(half, workdir=tmp_path / "few")["propagate"]
    row = {name: i for i, name in enumerate(every.names)}
    for found, count in ((report, None), (few, 3)):
        jp, lp = (open_source(found["dataset"], mode) for mode in ("jp", "lp"))
        for a, b in zip((jp[i] for i in range(len(jp))), (lp[i] for i in range(len(lp)))):
            real = every[row[f"{a.sequence}_{a.frame:03d}"]]
            assert (a.image == real.image).all() and (b.image == real.image).all()
            assert (a.label == real.label).all() and (b.label == real.label).all()
        assert count is None or len({jp._reader("jp")[i]["source_name"] for i in range(len(jp))}) == count
        assert jp._reader("jp")[0]["method"] == b"truth"


def test_written_labels_are_scored_against_the_true_ones(street_dir, tmp_path):
    found = run_recipe(config(street_dir, score=True, sheet_rows=0, modes=("lp",)), workdir=tmp_path / "flow")[
        "propagate"
    ]
    every = open_source(
        "synthetic_street", "train", data_dir=street_dir, builder_options={**STREET, "labelled_every": 1}
    )
    row = {name: i for i, name in enumerate(every.names)}
    lp = open_source(found["dataset"], "lp")
    matrix, kept, known = np.zeros((19, 19), np.int64), 0, 0
    for record in (lp[i] for i in range(len(lp))):
        truth = every[row[f"{record.sequence}_{record.frame:03d}"]].label
        both = (truth != 255) & (record.label != 255)
        np.add.at(matrix, (truth[both], record.label[both]), 1)
        kept, known = kept + both.sum(), known + (truth != 255).sum()
    quality = found["quality"]
    assert quality["miou"] == pytest.approx(iou_scores(matrix)["miou"], abs=1e-6)
    assert quality["kept"] == pytest.approx(kept / known, abs=1e-6) and list(quality["by_step"]) == [
        "-2",
        "-1",
        "+1",
        "+2",
    ]
    shifted = dict(method="truth", score=True, sheet_rows=0, modes=("lp",))
    scores = [
        run_recipe(config(street_dir, label_shift=pixels, **shifted), workdir=tmp_path / str(pixels))["propagate"]
        for pixels in (0.0, 1.0, 3.0)
    ]
    exact, near, far = (one["quality"]["miou"] for one in scores)
    assert exact == 1 > near > far > 0.3


def test_a_part_of_the_labels(street_dir, tmp_path):
    """train::2 keeps every second label; the frames that lose theirs are there, and nobody can read it."""
    few = open_source("synthetic_street", "train::2", data_dir=street_dir, builder_options=STREET, labelled_only=False)
    every = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=STREET, labelled_only=False)
    assert few.names == every.names
    kept = np.flatnonzero(few.index.labelled)
    assert kept.tolist() == np.flatnonzero(every.index.labelled)[1::2].tolist()
    assert [i for i in range(len(few)) if few[i].label is not None] == kept.tolist()
    report = run_recipe(config(street_dir, split="train::2", steps=1), workdir=tmp_path)["propagate"]
    jp = open_source(report["dataset"], "jp")
    sources = {jp._reader("jp")[i]["source_name"].decode() for i in range(len(jp))}
    assert sources == {few.names[i] for i in kept}


def test_kill_9_and_the_same_bytes(done, street_dir, tmp_path):
    code = (
        "from tests.stages import test_propagate as t\n"
        f"t.run_recipe(t.config({str(street_dir)!r}, shard_frames=1), workdir={str(tmp_path / 'killed')!r})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    shards = tmp_path / "killed/propagate/shards"
    deadline = time.time() + 300
    while process.poll() is None and not list(shards.glob("0*.json")) and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {path.name: path.stat().st_mtime_ns for path in shards.glob("0*.json")}
    assert first, process.stderr.read()[-3000:]
    run_recipe(config(street_dir, shard_frames=1), workdir=tmp_path / "killed")
    kept = {path.name: path.stat().st_mtime_ns for path in shards.glob("0*.json")}
    assert first.items() <= kept.items(), "work that was done must not be repeated"
    run_recipe(config(street_dir, shard_frames=1), workdir=tmp_path / "whole")
    killed, whole = (tmp_path / name / "propagate/dataset" for name in ("killed", "whole"))
    files = sorted(path.name for path in whole.glob("*.array_record*"))
    assert files == sorted(path.name for path in killed.glob("*.array_record*")) and len(files) > 4
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in files)


def test_a_training_reads_it(done, street_dir, tmp_path):
    workdir, report = done
    context = Context("train", workdir, workdir / "train", 0, read_dataset(config(street_dir).dataset, "dataset"))
    real = context.dataset.open("train")
    extra = read_extras(ConfigDict(dict(stage="propagate", mode="jp", steps=(1,))), "train.extra")
    source, extras = open_extras(extra, real, context)
    near = sum(count for step, count in report["carried"].items() if abs(int(step)) == 1)
    assert len(source) == len(real) + near and parts_of(real, extras)["propagate"] == (len(real), len(source))
    epochs = make_plan("class_uniform", dict(tile=32), real, extras, seed=0, cache=tmp_path / "centroids")
    options = read_plan(dict(crop=dict(size=(32, 32)), batch_size=4, total_epochs=2), "train")
    plan = make_run_plan(options, epochs, parallel.make_mesh({"data": 1}))
    samples = ImageCrops(source, options.crop.scale_range)
    assert plan.epochs.length == len(source) == len(samples.sizes)
    records = set()
    for _, batch in train_batches(samples, plan.epochs, plan.timeline, Reading(num_threads=0)):
        records |= set(batch["record"].tolist())
        assert batch["image"].shape[0] == 4
    assert max(records) >= len(real) > min(records)


def test_bad_settings(street_dir, tmp_path):
    for wrong, said in (
        (dict(method="flwo"), "Did you mean 'flow'"),
        (dict(modes=()), "modes is empty"),
        (dict(modes=("jpg",)), "Did you mean 'jp'"),
        (dict(rgb_warp="cubic"), "rgb_warp"),
        (dict(stps=3), "Did you mean 'steps'"),
        (dict(steps=0), "steps=0"),
        (dict(shard_frames=0), "shard_frames=0"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(sheet_rows=-1), "sheet_rows=-1"),
        (dict(inputs="nea"), "Did you mean 'near'"),
        (dict(method="reconstruction"), "checkpoint"),
        (dict(flow="diss"), "Did you mean 'dis'"),
        (dict(method="truth", max_cycle_error=1.0), "set max_cycle_error=0"),
    ):
        with pytest.raises(UserError, match=said):
            run_recipe(config(street_dir, **wrong), workdir=tmp_path)
    assert not list(tmp_path.rglob("*.array_record"))


def test_nothing_to_carry_is_said(street_dir, tmp_path):
    lonely = config(street_dir)
    lonely.dataset.options.frames = 2
    lonely.dataset.options.labelled_every = 2
    directory = build_dataset("synthetic_street", data_dir=street_dir, builder_options=lonely.dataset.options.to_dict())
    labelled = np.load(directory / "index-train.npz")["labelled"].reshape(3, 2)
    side = 1 if labelled[0, 1] else -1
    lonely.propagate.directions = (side,)
    with pytest.raises(UserError, match="the sequence ends"):
        run_recipe(lonely, workdir=tmp_path)
    assert json.loads((tmp_path / "propagate/shards/00000.json").read_text())["lengths"] == {"jp": 0, "lp": 0}


def test_processes_share_the_shards(street_dir, tmp_path, monkeypatch):
    source = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=STREET, labelled_only=False)
    options = stage.Options(method="copy", steps=1, shard_frames=1)
    groups = stage.chain_groups(source, options, needs_before=False)
    propagator = Propagator("copy", batch=2)
    tag = dict(method="copy", model="none", config="x")

    def write(name):
        shards = RecordShards(tmp_path / name, "propagated", ("jp",), source.label_map, PROVENANCE, {"a": 1})
        work = stage.Work(shards, source, propagator, tag)
        return shards, lambda: write_records(shards, groups, work.carry, work.encode)

    (whole, write_whole), (parts, write_part) = write("whole"), write("parts")
    for shards in (whole, parts):
        shards.open()
    write_whole()
    monkeypatch.setattr("segjax.parallel.sync", lambda name: None)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    for index in (1, 0):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        write_part()
        there = {number for number in range(len(groups)) if parts.summary(number)}
        assert there == {n for n in range(len(groups)) if n % 2 == 1 or index == 0}
    one, other = whole.finish(len(groups)), parts.finish(len(groups))
    for path in one.glob("*.array_record*"):
        assert path.read_bytes() == (other / path.name).read_bytes()


@pytest.mark.slow
def test_a_trained_network_carries_labels(street_dir, tmp_path):
    """train_video -> propagate in one run, with the network's own flow."""
    recipe = config(street_dir, method="reconstruction", checkpoint="train_video", flow="", limit=2)
    recipe.stages = ("train_video", "propagate")
    recipe.train_video = ConfigDict(
        dict(
            kind="train_video",
            batch_size=2,
            crop=dict(size=(32, 32)),
            flow=dict(name="dis", options=dict(preset="fast"), measure=2),
            model=dict(name="sdcnet2d_recon", options=dict(width=0.1, levels=3)),
            optimizer=dict(name="adam", lr=1e-3),
            mesh=dict(data=1),
            total_steps=2,
        )
    )
    reports = run_recipe(recipe, workdir=tmp_path)
    assert reports["propagate"]["model"] == "sdcnet2d_recon, step 2" and reports["propagate"]["carried"]["+1"] >= 1
    jp = open_source(reports["propagate"]["dataset"], "jp")
    assert (
        jp._reader("jp")[0]["model"] == b"sdcnet2d_recon, step 2" and jp._reader("jp")[0]["method"] == b"reconstruction"
    )
    assert (jp[0].label != 255).mean() > 0.5
