"""The stage "pseudo_label": records and report against numpy, kill -9, two processes, bad input."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from segjax.data import LabelMap, class_table, open_source, record_shards
from segjax.data.derived import PSEUDO, open_derived
from segjax.data.image_files import decode_image, decode_mask, encode_png
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError
from segjax.media.writers import VideoWriter
from segjax.stages import run_recipe
from segjax.stages.pseudo_options import read
from tests.processes import environment, run_together
from tests.stages.teacher import MAP, STREET, config, files, label, network, probabilities

ROOT = Path(__file__).resolve().parents[2]


def street(street_dir, split="train", **options):
    return open_source("synthetic_street", split, data_dir=street_dir, builder_options=STREET, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, street_dir):
    """Images as people have them: a JPEG, a PNG, a grey PNG, a damaged file, a larger JPEG, a note."""
    root = tmp_path_factory.mktemp("images")
    source = street(street_dir)
    for name, place in (("b10.jpg", 0), ("b9.png", 1)):
        cv2.imwrite(str(root / name), source[place].image[..., ::-1])
    cv2.imwrite(str(root / "grey.png"), source[2].image[..., 0])
    (root / "broken.jpg").write_bytes((root / "b10.jpg").read_bytes()[:300])
    (root / "sub").mkdir()
    cv2.imwrite(str(root / "sub/large.jpg"), cv2.resize(source[3].image, (96, 64))[..., ::-1])
    (root / "notes.txt").write_text("nothing")
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory, street_dir, folder):
    """(workdir, report) of hard labels of a split and of a folder."""
    workdir = tmp_path_factory.mktemp("pseudo")
    pools = dict(rest=dict(split="train::3"), files=dict(frames=str(folder)))
    return workdir, label(
        street_dir,
        workdir,
        unlabelled=pools,
        confidence=True,
        threshold=dict(road=0.5, sky=0.9),
        batch_size=4,
        sheet_rows=2,
    )


def records(report):
    """Name -> (record, what is stored)."""
    source = TfdsSource(report["dataset"], PSEUDO)
    return {source.names[i]: (source[i], source.example(i)) for i in range(len(source))}


def test_records_of_a_split_and_of_a_folder(done, street_dir, folder):
    workdir, report = done
    found = records(report)
    rest = street(street_dir, "train::3", labelled_only=False)
    unlabelled = [name for name, one in zip(rest.names, rest.index.labelled) if not one]
    names = ["b9", "b10", "grey", "sub/large"]
    assert list(found) == [*(f"files/{name}" for name in names), *(f"rest/{name}" for name in unlabelled)]
    thresholds = np.array([{"road": 0.5, "sky": 0.9}.get(name, 0) for name in MAP.class_names])
    ignored = 0
    for name, (record, stored) in found.items():
        truth = probabilities(record.image)
        ids, top = truth.argmax(-1), truth.max(-1)
        second = np.partition(truth, -2, axis=-1)[..., -2]
        clear = (np.abs(top - thresholds[ids]) > 1e-5) & (top - second > 1e-5)  # in float32 too
        assert (record.label == np.where(top < thresholds[ids], 255, ids))[clear].all() and clear.mean() > 0.9, name
        confidence = decode_mask(stored["confidence"], name)
        assert np.abs(confidence - 255 * top).max() <= 0.51
        pool, _, own = name.partition("/")
        assert (stored["pool"].decode(), stored["source_name"].decode()) == (pool, own)
        assert stored["checkpoint"] == b"teacher" and stored["model"] == b"formula, step 1" and stored["labelled"]
        assert len(stored["config"]) == 12
        ignored += (record.label == 255).sum()
    assert ignored > 100
    assert found["rest/" + unlabelled[0]][1]["source"] == b"synthetic_street train::3"
    assert found["files/b9"][1]["source"].decode() == str(folder)
    first = rest.names.index(unlabelled[0])
    assert found["rest/" + unlabelled[0]][1]["image"] == rest.encoded_image(first)  # as it is stored there
    assert found["rest/" + unlabelled[0]][0].sequence == f"rest/{rest.index.sequences[first]}"
    for name, same in (("b10.jpg", True), ("b9.png", True), ("sub/large.jpg", True), ("grey.png", False)):
        data = (folder / name).read_bytes()
        stored = found["files/" + name.rpartition(".")[0]][1]["image"]
        assert (stored == data) == same and (decode_image(stored, name) == decode_image(data, name)).all()
    assert {path.name for path in (workdir / "pseudo_label/sheets").iterdir()} == {"rest.png", "files.png"}
    derived = open_derived(workdir / "pseudo_label")
    assert derived.kind == PSEUDO and derived.splits == (PSEUDO,) and derived.soft == ()


def tenths(levels):
    """Shares of levels 0..255 in each tenth of 0..1."""
    tens = 10 * levels.astype(int)
    return [((tens >= 255 * b) & ((tens < 255 * (b + 1)) | (b == 9))).mean() for b in range(10)]


def test_the_report(done, street_dir):
    _, report = done
    found = records(report)
    labels = np.concatenate([record.label.ravel() for record, _ in found.values()])
    assert report["records"] == report["images"] == len(found) == 16 and report["skipped"] == 1
    assert report["ignored"] == pytest.approx((labels == 255).mean(), abs=1e-6)
    for i, name in enumerate(MAP.class_names):
        assert report["classes"][name] == pytest.approx((labels == i).mean(), abs=1e-6)
    ids = np.concatenate([probabilities(record.image).argmax(-1).ravel() for record, _ in found.values()])
    levels = np.concatenate([decode_mask(stored["confidence"], "c").ravel() for _, stored in found.values()])
    assert report["confidence"]["all"] == pytest.approx(tenths(levels), abs=1e-6)
    assert report["confidence"]["classes"]["road"] == pytest.approx(tenths(levels[ids == 0]), abs=1e-3)
    assert report["megabytes"]["image"] == pytest.approx(
        sum(len(s["image"]) for _, s in found.values()) / 1e6, abs=1e-3
    )
    assert len(report["problems"]) == 1 and "broken.jpg" in report["problems"][0]
    pools = report["pools"]
    assert pools["files"]["images"] == 4 and pools["files"]["skipped"] == 1 and pools["files"]["truth"] is None

    score, truth = pools["rest"]["truth"], street(street_dir)
    assert score["images"] == pools["rest"]["images"] == 12
    matrix, right, known = np.zeros((19, 19)), np.zeros(10), np.zeros(10)
    for name, (record, stored) in found.items():
        if name.startswith("rest/"):
            of = truth[truth.names.index(name[5:])]
            for t, p in zip(of.label.ravel(), record.label.ravel()):
                if t != 255 and p != 255:
                    matrix[t, p] += 1
            bins = np.minimum(decode_mask(stored["confidence"], "c").astype(int) * 10 // 255, 9)
            hit = probabilities(of.image).argmax(-1) == of.label
            for b in range(10):
                here = (bins == b) & (of.label != 255)
                known[b] += here.sum()
                right[b] += (hit & here).sum()
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    iou = np.diag(matrix)[union > 0] / union[union > 0]
    assert score["miou"] == pytest.approx(iou.mean(), abs=1e-6) and 0 < score["miou"] < 1
    assert score["pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-6)
    expected = [r / n if n else None for r, n in zip(right, known)]
    # a pixel half way between two classes may go to the other one in float32
    assert score["accuracy_by_confidence"] == [None if e is None else pytest.approx(e, abs=2e-3) for e in expected]
    assert sum(e is not None for e in expected) > 5
    assert report["truth"]["miou"] == score["miou"]  # the folder has no labels
    assert report["images_per_second"] > 0


def test_soft_labels(street_dir, tmp_path):
    report = label(street_dir, tmp_path, labels="soft", top_k=4, threshold=0.3, limit=4)
    assert set(report["megabytes"]) == {"image", "label", "soft_ids", "soft_shares"}
    source = open_derived(tmp_path / "pseudo_label").open(PSEUDO, fields=("soft",))
    assert source.top_k == 4 and len(source) == 4
    hidden = 0
    for i in range(len(source)):
        record = source[i]
        truth = probabilities(record.image)
        order = np.argsort(-truth, axis=-1, kind="stable")[..., :4]
        shares = np.take_along_axis(truth, order, axis=-1)
        kept = record.label != 255
        assert (record.soft_ids[~kept] == 255).all() and (record.soft_shares[~kept] == 0).all()
        assert (
            kept.any() and (record.soft_ids[kept] == order[kept]).mean() > 0.99
        )  # classes of equal probability may change places
        assert np.abs(record.soft_shares[kept] - 255 * shares[kept]).max() <= 0.51
        assert (record.soft_ids[..., 0] == record.label).all()
        hidden += (~kept).sum()
    assert hidden > 0
    hard = open_derived(tmp_path / "pseudo_label").open(PSEUDO)
    assert hard.top_k == 0 and hard[0].soft_ids is None
    with pytest.raises(UserError, match="holds no soft labels"):
        street(street_dir, fields=("soft",))


def test_smaller_images_with_their_labels_and_truth(street_dir, tmp_path):
    report = label(street_dir, tmp_path, size=16, limit=3)
    for record, stored in records(report).values():
        assert record.image.shape == (16, 24, 3) and record.label.shape == (16, 24)
        assert (stored["height"], stored["width"]) == (16, 24)
        assert (record.label == probabilities(record.image).argmax(-1)).mean() > 0.99
    whole = street(street_dir)
    name, (record, _) = next(iter(records(report).items()))
    image = whole[whole.names.index(name[5:])].image
    assert np.abs(record.image.astype(int) - image.reshape(16, 2, 24, 2, 3).mean((1, 3))).max() <= 1
    assert report["truth"]["images"] == 3


def test_frames_of_a_video(street_dir, tmp_path):
    source = street(street_dir)
    with VideoWriter(tmp_path / "clips/drive.mp4", fps=5) as video:
        for i in range(8):
            video.write(cv2.resize(source[i].image, (64, 48)))
    (tmp_path / "clips/bad.mp4").write_bytes(b"no video")
    report = label(street_dir, tmp_path / "run", unlabelled=dict(drive=dict(frames=str(tmp_path / "clips"), every=3)))
    found = records(report)
    assert list(found) == [f"drive/drive/00000{n}" for n in (0, 3, 6)]
    assert "bad.mp4" in report["problems"][0]
    assert [(record.sequence, record.frame) for record, _ in found.values()] == [("drive/drive", n) for n in (0, 3, 6)]
    capture = cv2.VideoCapture(str(tmp_path / "clips/drive.mp4"))
    frames = [capture.read()[1][..., ::-1] for _ in range(8)]
    assert all((record.image == frames[record.frame]).all() for record, _ in found.values())


def test_a_record_depends_on_its_image_only(done, street_dir, folder, tmp_path):
    """Other shards, other neighbours in a batch: the same labels."""
    _, report = done
    pools = dict(rest=dict(split="train::3"), files=dict(frames=str(folder)))
    same = dict(unlabelled=pools, confidence=True, threshold=dict(road=0.5, sky=0.9), batch_size=4, shard_images=5)
    other, first = label(street_dir, tmp_path, **same), records(report)
    for name, (_, stored) in records(other).items():
        before = first[name][1]
        assert all(stored[key] == before[key] for key in ("image", "label", "confidence", "name"))


def test_kill_9_and_the_same_bytes(street_dir, tmp_path):
    words = [sys.executable, "-m", "tests.stages.teacher", street_dir, tmp_path / "killed"]
    process = subprocess.Popen(
        list(map(str, words)), cwd=ROOT, env=environment(SHARD_IMAGES=1, PYTHONPATH=ROOT), stderr=subprocess.PIPE
    )
    shards = tmp_path / "killed/pseudo_label/shards"
    deadline = time.time() + 300
    while process.poll() is None and len(list(shards.glob("0*.json"))) < 2 and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {path.name: path.stat().st_mtime_ns for path in shards.glob("0*.json")}
    assert first, process.stderr.read()[-3000:]
    assert not (tmp_path / "killed/pseudo_label/dataset").exists()
    killed = label(street_dir, tmp_path / "killed", shard_images=1)
    kept = {path.name: path.stat().st_mtime_ns for path in shards.glob("0*.json")}
    assert first.items() <= kept.items(), "work that was done must not be repeated"
    whole = label(street_dir, tmp_path / "whole", shard_images=1)
    assert files(killed["dataset"]) == files(whole["dataset"]) and len(files(whole["dataset"])) == 12
    for name in ("classes", "confidence", "truth", "pools", "megabytes"):
        assert killed[name] == whole[name]


def test_two_processes_write_what_one_writes(street_dir, tmp_path):
    street(street_dir)  # built before the processes need it
    run_together(
        lambda address, index: [
            sys.executable, "-m", "tests.stages.teacher", street_dir, tmp_path / "two", address, index
        ],
        devices=1,
    )  # fmt: skip
    subprocess.run(
        list(map(str, [sys.executable, "-m", "tests.stages.teacher", street_dir, tmp_path / "one"])),
        cwd=ROOT,
        env=environment(PYTHONPATH=ROOT),
        check=True,
        capture_output=True,
    )
    one, two = (tmp_path / name / "pseudo_label" for name in ("one", "two"))
    assert files(one / "dataset") == files(two / "dataset") and len(files(one / "dataset")) == 4
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, two)]
    assert reports[0]["classes"] == reports[1]["classes"] and reports[0]["truth"] == reports[1]["truth"]


def test_a_full_disk_leaves_no_dataset_and_the_same_command_resumes(street_dir, tmp_path, monkeypatch):
    written, whole = [], record_shards.write_shard

    def full(path, examples):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        return whole(path, examples)

    with monkeypatch.context() as patch:
        patch.setattr(record_shards, "write_shard", full)
        with pytest.raises(UserError, match="^the disk is full while building .*pseudo_label; free space .*--workdir$"):
            label(street_dir, tmp_path)
    assert not (tmp_path / "pseudo_label/dataset").exists() and not (tmp_path / "pseudo_label/report.json").exists()
    assert len(list((tmp_path / "pseudo_label/shards").glob("0*.json"))) == 2
    report = label(street_dir, tmp_path)
    assert files(report["dataset"]) == files(label(street_dir, tmp_path / "again")["dataset"])


def test_a_folder_begun_with_other_settings(street_dir, tmp_path):
    label(street_dir, tmp_path, limit=2)
    (tmp_path / "pseudo_label/report.json").unlink()
    with pytest.raises(UserError, match=r"was begun with other settings \(threshold: 0.0 -> 0.5\); delete the folder"):
        label(street_dir, tmp_path, limit=2, threshold=0.5)


def test_referenced_images_that_changed(street_dir, folder, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(folder, images)
    report = label(street_dir, tmp_path, unlabelled=dict(own=dict(frames=str(images))), images="referenced")
    source = TfdsSource(report["dataset"], PSEUDO)
    assert report["megabytes"]["image"] < 0.001 and source.names[1] == "own/b10"
    file = images / "b10.jpg"
    data = file.read_bytes()
    assert (source[1].image == decode_image(data, "b10")).all() and source[1].label.shape == (32, 48)
    file.write_bytes(data + b"\0")
    with pytest.raises(UserError, match=f"^{file} has changed since its pseudo label was written .* label the images"):
        source[1]
    file.write_bytes(data[:-9] + b"123456789")
    with pytest.raises(UserError, match="another content"):
        source[1]
    file.unlink()
    with pytest.raises(UserError, match=f"^{file} does not exist.*images='referenced'"):
        source[1]


SPLIT = dict(rest=dict(split="train::3"))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(labels="sfot"), "Did you mean 'soft'"),
        (dict(images="copy"), "Did you mean 'copied'"),
        (dict(top_k=3), "top_k=3 belongs to labels='soft'"),
        (dict(threshold=1.5), "threshold=1.5 must be a probability"),
        (dict(threshold=dict(road=-1)), "threshold.road=-1 must be a probability"),
        (dict(batch_size=-1), "batch_size=-1"),
        (dict(shard_images=0), "shard_images=0"),
        (dict(size=-1), "size=-1"),
        (dict(scales=(0,)), "scales="),
        (dict(protocol="singel"), "Did you mean 'single'"),
        (dict(shard_image=3), "Did you mean 'shard_images'"),
        (dict(unlabelled={}), "unlabelled={} must name pools"),
        (dict(unlabelled=dict(a=3)), "unlabelled.a must have either 'split'"),
        (dict(unlabelled=dict(a=dict(split="train", frames="x"))), "must have either 'split'"),
        (dict(unlabelled=dict(a=dict(split="train", onyl="all"))), "Did you mean 'only'"),
        (dict(unlabelled=dict(a=dict(split="train", only="al"))), "Did you mean 'all'"),
        (dict(unlabelled=dict(a=dict(frames="x", every=0))), "every=0"),
        (dict(unlabelled={"a/b": dict(frames="x")}), "a pool's name has letters"),
        (dict(images="referenced"), "images of pool 'rest' are stored in a dataset"),
        (dict(images="referenced", size=9, unlabelled=dict(a=dict(frames="x"))), "size reduces images"),
    ],
)
def test_wrong_sections(wrong, said):
    section = {"kind": "pseudo_label", "checkpoint": "teacher", "unlabelled": SPLIT, **wrong}
    with pytest.raises(UserError, match=said):
        read(section, "pseudo_label")


def refused(street_dir, workdir, **section):
    with pytest.raises(UserError) as error:
        label(street_dir, workdir, **section)
    assert not (Path(workdir) / "pseudo_label/shards").exists(), "nothing is begun"
    return str(error.value)


def test_pools_that_are_refused(street_dir, tmp_path, folder):
    def pool(**settings):
        return dict(unlabelled=dict(a=settings))

    empty, broken, held_out = (tmp_path / name for name in ("empty", "broken", "held_out"))
    for made in (empty, broken, held_out):
        made.mkdir()
    (broken / "a.png").write_bytes(b"no image")
    assert "holds no image" in refused(street_dir, tmp_path, **pool(frames=str(empty)))
    assert "is no path" in refused(street_dir, tmp_path, **pool(frames=str(tmp_path / "nowhere")))
    assert "matches no image" in refused(street_dir, tmp_path, **pool(frames=str(folder / "*.tif")))
    said = refused(street_dir, tmp_path, **pool(frames=str(broken)))
    assert "pool 'a': none of the images" in said and "a.png" in said
    said = refused(street_dir, tmp_path, **pool(split="train"))
    assert "all 18 records of synthetic_street train are labelled" in said and "only='all'" in said
    said = refused(street_dir, tmp_path, **pool(split="validation", only="all"))
    assert "unlabelled.a: 6 images are those of the run's own validation split 'validation', such as" in said

    held = street(street_dir, "validation")
    name = held.names[2]
    cv2.imwrite(str(held_out / f"{name}.jpg"), held[2].image[..., ::-1])
    said = refused(street_dir, tmp_path, **pool(frames=str(held_out)))
    assert f"1 images are those of the run's own validation split 'validation', such as {name}" in said
    assert "own validation split" in refused(street_dir, tmp_path, size=16, **pool(frames=str(held_out)))
    (held_out / f"{name}.jpg").write_bytes(encode_png(255 - held[2].image))  # of the same name by chance
    assert label(street_dir, tmp_path, **pool(frames=str(held_out)))["records"] == 1


def test_teachers_that_are_refused(street_dir, tmp_path, monkeypatch):
    assert "top_k=20 is more than the 19 classes" in refused(street_dir, tmp_path, labels="soft", top_k=20)
    said = refused(street_dir, tmp_path, threshold={"raod": 0.5})
    assert "threshold names 'raod', which is no class. Did you mean 'road'?" in said
    other = network(LabelMap(class_table("camvid")))
    monkeypatch.setattr("tests.stages.teacher.network", lambda: other)
    said = refused(street_dir, tmp_path)
    assert (
        "the teacher in teacher has other classes than the dataset synthetic_street (11 classes instead of 19)" in said
    )


def test_a_video_network_is_no_teacher(street_dir, tmp_path, monkeypatch):
    def load(path):
        return {"name": "sdcnet2d", "num_classes": 0, "options": {}}, {}, {"step": 1}

    monkeypatch.setattr("segjax.inference.network.load_for_inference", load)
    (tmp_path / "teacher").mkdir()
    with pytest.raises(UserError, match="teacher holds sdcnet2d, which labels no image; give a run of a stage of kind"):
        run_recipe(config(street_dir), workdir=tmp_path)


def test_a_finished_stage_is_skipped_and_a_missing_teacher_is_named(done, street_dir, folder, tmp_path):
    workdir, report = done
    pools = dict(rest=dict(split="train::3"), files=dict(frames=str(folder)))
    same = dict(
        unlabelled=pools, confidence=True, threshold=dict(road=0.5, sky=0.9), batch_size=4, sheet_rows=2
    )  # fmt: skip
    assert label(street_dir, workdir, **same)["finished"] == report["finished"]
    with pytest.raises(UserError, match="pseudo_label.checkpoint='nowhere' is no path, and no stage before"):
        label(street_dir, tmp_path, checkpoint="nowhere")
