"""The end of one process ends the others with a sentence, and at once; a process that hangs does so, too."""

import contextlib
import json
import os
import signal
import socket
import sys
import time

import pytest

from segjax.parallel.watch import _Hub, _Spoke
from tests.processes import start_together

WORKER = """
import sys, time
from segjax import parallel
from segjax.errors import UserError
from segjax.parallel import watch
address, index, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if how == "hangs":  # before the watch begins: a process that is a little later than the others still beats
    watch.BEAT, watch.SILENT, watch.TICK = 0.2, 5.0, 0.1
found = parallel.setup(platform="cpu", coordinator=address, num_processes=3, process_id=index)
with parallel.watch_others(program="test", coordinator=found, orderly=(KeyError,)):
    parallel.sync("start")
    if how == "hangs":
        print("ready", flush=True)
        time.sleep(60)
    if index == 1 and how == "error":
        raise UserError("the disk of this host is full.")
    if how == "orderly":
        raise KeyError("all processes stop together")
    time.sleep(60 if how == "error" else 0)
"""


@pytest.mark.parametrize("how", ("error", "orderly"))
def test_three_processes(how):
    processes = start_together(lambda *place: [sys.executable, "-c", WORKER, *place, how], count=3, devices=1)
    try:
        errors = [process.communicate(timeout=50)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    sentence = f"test: error: process 1 of 3 (pid {processes[1].pid} on {socket.gethostname()}) has ended"
    if how == "error":
        assert [process.returncode for process in processes] == [1, 2, 1]
        assert "the disk of this host is full" in errors[1] and sentence not in errors[1]
        assert sentence in errors[0] and sentence in errors[2]
        assert "Traceback" not in errors[0] + errors[2]
    else:
        assert [process.returncode for process in processes] == [1, 1, 1]
        assert "has ended" not in "".join(errors) and all("KeyError: 'all" in text for text in errors)


@pytest.mark.parametrize("victim", (pytest.param(0, marks=pytest.mark.slow), 1))
def test_a_process_that_hangs(victim):
    processes = start_together(lambda *place: [sys.executable, "-c", WORKER, *place, "hangs"], count=3, devices=1)
    others = [process for k, process in enumerate(processes) if k != victim]
    try:
        for process in processes:
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
        if victim:
            all_hang_for_a_while(processes)
        processes[victim].send_signal(signal.SIGSTOP)
        errors = [process.communicate(timeout=30)[1] for process in others]
        processes[victim].send_signal(signal.SIGCONT)  # it finds that the others have ended
        last = processes[victim].communicate(timeout=30)[1]
    finally:
        for process in processes:
            process.kill()
    sentence = (
        f"test: error: process {victim} of 3 (pid {processes[victim].pid} on {socket.gethostname()}) has given no"
    )
    assert all(sentence in text and "kill -9" in text and "Traceback" not in text for text in errors), errors
    assert [process.returncode for process in processes] == [1, 1, 1], errors
    assert "test: error: process" in last


def all_hang_for_a_while(processes):
    """As when a scheduler suspends a job: the first to wake must not blame the next."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    for process in processes:
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
    assert [process.poll() for process in processes] == [None] * len(processes)


def test_a_stranger_is_not_heard():
    hub = _Hub("test", "127.0.0.1:1")
    hub.start()
    address, port, token = hub.place
    texts = (b"GET / HTTP/1.1\r\n\r\n", b'["wrong", "process 7"]\n', b"[1]\n", b"7\n", b"x" * 5000, b"[" * 4096 + b"\n")
    for text in texts:
        with socket.create_connection((address, port), timeout=5) as stranger:
            stranger.sendall(text)
            with contextlib.suppress(ConnectionResetError):  # what it has sent was not read to its end
                assert stranger.recv(100) == b""
    with socket.create_connection((address, port), timeout=5) as honest:
        honest.sendall(json.dumps([token, "process 1"]).encode() + b"\n")
        assert f"pid {os.getpid()}".encode() in honest.recv(1000)
        honest.sendall(b'"bye"\n')
        hub.leave()
        assert honest.recv(100) in (b'"bye"\n', b"")
    hub.join(timeout=10)
    assert not hub.is_alive() and not hub.gone.is_set()


def test_process_0_out_of_reach(caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = free.getsockname()
    spoke = _Spoke("test", place, "token")
    spoke.start()
    spoke.leave()
    assert "process 0 cannot be watched" in caplog.text and not spoke.gone.is_set()
