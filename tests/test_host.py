"""The cores a process may use: its affinity, at most the quota of its container; signals."""

import gc
import itertools
import os
import signal
import subprocess
import sys

import pytest

from segjax import host


@pytest.fixture
def quota(tmp_path, monkeypatch):
    file = tmp_path / "cpu.max"
    monkeypatch.setattr(host, "CGROUP_QUOTA", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return file


@pytest.mark.parametrize(
    "text, cores",
    [
        ("max 100000", 16),
        ("200000 100000", 2),
        ("3200000 100000", 16),
        ("250000 100000", 2),
        ("10000 100000", 1),
        ("", 16),
    ],
)
def test_the_quota_of_a_container_bounds_the_cores(quota, text, cores):
    quota.write_text(text)
    assert host.usable_cores() == cores


def test_without_a_cgroup_the_affinity_counts(quota):
    assert host.usable_cores() == 16


def test_a_machine_without_affinity_counts_its_cores(quota, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert host.usable_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_bound_to_one_core_uses_one(root):
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    program = f"{bind}; from segjax import host; print(host.usable_cores())"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    "before, after", [((700, 10, 10), (5_000, 10, 10)), ((0, 10, 10), (0, 10, 10)), ((9_000, 5, 2), (9_000, 5, 2))]
)
def test_garbage_is_collected_less_often_and_never_more(before, after):
    now = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        host.collect_garbage_less_often()
        assert gc.get_threshold() == after
    finally:
        gc.set_threshold(*now)


@pytest.mark.parametrize("first, second", itertools.product((signal.SIGINT, signal.SIGTERM), repeat=2))
def test_the_second_signal_ends_the_process_whichever_it_is(root, first, second):
    # a shell's background jobs ignore ctrl-C, and so would what they start
    program = "import os, signal, sys; from segjax.host import StopFlag\n"
    program += "signal.signal(signal.SIGINT, signal.default_int_handler)\nwith StopFlag() as stop:\n    "
    program += "os.kill(os.getpid(), int(sys.argv[1]))\n    print(stop.number, flush=True)\n    "
    program += "os.kill(os.getpid(), int(sys.argv[2]))\n    print('lives')"
    command = [sys.executable, "-c", program, str(int(first)), str(int(second))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.stdout == f"{int(first)}\n"
    assert done.returncode in (-second, 1 if second == signal.SIGINT else -second)  # KeyboardInterrupt of python


def test_where_every_thread_is_can_be_asked(root):
    program = "import os, signal, threading; from segjax.host import print_stacks_on_request\n"
    program += "def waits_for_ever(): threading.Event().wait()\n"
    program += "threading.Thread(target=waits_for_ever, daemon=True).start(); print_stacks_on_request()\n"
    program += "os.kill(os.getpid(), signal.SIGUSR1); print('lives')"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.stdout == "lives\n" and done.returncode == 0 and "waits_for_ever" in done.stderr
