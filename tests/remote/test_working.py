"""A run in a bucket: one at a time, copied while it runs, and ended with one sentence if the bucket refuses."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax.errors import UserError
from segjax.remote import Store, current, fetch, lease, read_address, store, working, working_copy
from segjax.remote.manifest import read_files

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from segjax.remote import read_address, working_copy
with working_copy(read_address(sys.argv[1], "--workdir")) as copy:
    (copy.folder / "report.json").write_text("{}")
    copy.flush()
    print("written", flush=True)
    (copy.folder / "late").write_text("x")
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(working, "INTERVAL", 0.1)
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "SILENCE", 1.5)
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    monkeypatch.setattr(store, "RETRIES", {**store.RETRIES, "max_retries": 1})


def wait_for(condition, seconds=20):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_a_run_goes_on_where_the_bucket_is(place, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "segjax")
    with working_copy(place) as copy:
        assert current() is copy and not list(copy.folder.iterdir())
        (copy.folder / "a").write_text("1")
        wait_for(lambda: Store(place).read("a") == b"1" and read_files(Store(place)))
        (copy.folder / "b").write_text("2")
        logging.getLogger("segjax").info("written: %s", copy.folder / "b")
    assert current() is None and Store(place).read("b") == b"2"
    assert [one.getMessage() for one in caplog.records if one.name == "segjax"][-1] == f"written: {place}/b"
    monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "another host"))
    with working_copy(place) as copy:
        assert sorted(path.name for path in copy.folder.iterdir()) == ["a", "b"]
        (copy.folder / "a").unlink()
    assert set(read_files(Store(place))) == {"b"}


def test_killed_with_signal_9(place, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout.readline() == "written\n"
            with pytest.raises(UserError, match="another run is at work in .* on this host"), working_copy(place):
                pass
            run.send_signal(signal.SIGKILL)
            run.wait(60)
        finally:
            run.kill()
    with working_copy(place) as copy:  # at once: a lock of the system says that it is dead
        assert [path.name for path in copy.folder.iterdir()] == ["report.json"]


def test_a_run_on_another_host(place, tmp_path, monkeypatch):
    with working_copy(place):
        monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "another host"))
        busy = rf"another run .process {os.getpid()} on .* is at work in {place}; wait"
        with pytest.raises(UserError, match=busy), working_copy(place):
            raise AssertionError
    bucket = Store(place)
    bucket.write(lease.NAME, json.dumps({"token": "x", "host": "dead", "who": "process 7 on dead"}).encode())
    begin = time.time()
    with pytest.raises(UserError, match="another run .process 8 on other. has taken"), working_copy(place) as copy:
        assert time.time() - begin > 1.4  # it was dead for as long as it takes to know
        bucket.write(lease.NAME, json.dumps({"token": "y", "who": "process 8 on other"}).encode())
        (copy.folder / "a").write_text("1")
    assert read_files(bucket) is None


REFUSALS = {403: "no permission for the bucket", 507: "the bucket is full, or its quota is used up"}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_bucket_that_begins_to_refuse(place, rule, status):
    refused = f"cannot be written: {REFUSALS[status]}"
    with pytest.raises(UserError, match=refused) as found, working_copy(place) as copy:
        (copy.folder / "a").write_text("1")
        copy.flush()
        rule.rule = lambda method, path: None if method in ("GET", "HEAD") else (status, "no")
        (copy.folder / "b").write_text("2")
        wait_for(lambda: copy._error)
        copy.check()  # as every checkpoint does
    assert "\n" not in str(found.value) and str(copy.folder) not in str(found.value)
    rule.rule = lambda method, path: None
    with working_copy(place) as copy:
        assert [path.name for path in copy.folder.iterdir()] == ["a"]


def test_a_bucket_that_refuses_from_the_begin(place, rule):
    rule.rule = lambda method, path: (403, "no")
    refused = f"{place}.* cannot be .*: no permission for the bucket"
    with pytest.raises(UserError, match=refused), working_copy(place):
        raise AssertionError


def test_a_bucket_that_is_slow_or_away_for_a_while(place, rule, caplog, monkeypatch):
    with working_copy(place) as copy:
        rule.rule = lambda method, path: 0.2
        for name in "abcd":
            (copy.folder / name).write_text(name)
        copy.flush()
        rule.rule = lambda method, path: (503, "busy")
        (copy.folder / "e").write_text("e")
        wait_for(lambda: "The run goes on, and tries again." in caplog.text, 60)
        copy.check()  # it goes on
        rule.rule = lambda method, path: None
    assert set(read_files(Store(place))) == set("abcde")


def test_files_that_change_faster_than_they_are_copied(place, caplog, monkeypatch):
    monkeypatch.setattr(working, "LATE", 0.2)
    said = f"{place} has nothing of the last 0 s: files change or are removed faster than they are copied; make more"
    with working_copy(place) as copy:
        with monkeypatch.context() as changing:
            changing.setattr(copy._mirror, "push", lambda: False)
            wait_for(lambda: said in caplog.text)
            time.sleep(0.5)
        (copy.folder / "a").write_text("1")
    assert caplog.text.count(said) == 1 and Store(place).read("a") == b"1"


def test_a_bucket_that_does_not_exist(scheme, place, rule):
    if scheme == "gs":  # the emulator answers no request for another bucket
        rule.rule = lambda method, path: (404, '{"error": {"code": 404}}')
    address = read_address(f"{scheme}://tests-typo/run", "--workdir")
    missing = "there is no bucket 'tests-typo'; check the name, or create the bucket"
    with pytest.raises(UserError, match=missing), working_copy(address):
        raise AssertionError
    with pytest.raises(UserError, match="--checkpoint=.*://tests-typo/run names nothing that segjax has written"):
        fetch(address, "--checkpoint")
