"""The stage "pseudo_label" interrupted: kill -9, two processes, a full disk, settings and images that changed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax.data import record_shards
from segjax.data.derived import PSEUDO
from segjax.data.image_files import decode_image
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError
from tests.processes import environment, run_together
from tests.stages.teacher import files, label, street, write_images

ROOT = Path(__file__).resolve().parents[2]


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


def test_referenced_images_that_changed(street_dir, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_images(images, street(street_dir))
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
