"""The stage "pseudo_label": records and report against numpy."""

import cv2
import numpy as np
import pytest

from segjax.data.derived import PSEUDO, open_derived
from segjax.data.image_files import decode_image, decode_mask
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError
from segjax.media.writers import VideoWriter
from tests.stages.teacher import MAP, label, probabilities, street, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory, street_dir):
    return write_images(tmp_path_factory.mktemp("images"), street(street_dir))


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


def test_a_finished_stage_is_skipped_and_a_missing_teacher_is_named(done, street_dir, folder, tmp_path):
    workdir, report = done
    pools = dict(rest=dict(split="train::3"), files=dict(frames=str(folder)))
    same = dict(
        unlabelled=pools, confidence=True, threshold=dict(road=0.5, sky=0.9), batch_size=4, sheet_rows=2
    )  # fmt: skip
    assert label(street_dir, workdir, **same)["finished"] == report["finished"]
    with pytest.raises(UserError, match="pseudo_label.checkpoint='nowhere' is no path, and no stage before"):
        label(street_dir, tmp_path, checkpoint="nowhere")
