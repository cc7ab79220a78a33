"""Whatever is wrong with the processes of a run is one sentence, the same for all, before jax starts."""

import http.server
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from segjax.errors import NotYet, UserError, explain
from segjax.parallel import roll_call
from segjax.parallel.messages import receive, send
from segjax.parallel.processes import Processes
from segjax.parallel.roll_call import call_roll


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def together(*processes: Processes, wait: float = 20) -> list[str]:
    """Returns the sentence of each, "" if it joined."""

    def join(process):
        try:
            call_roll(process, wait=wait)
        except UserError as error:
            assert isinstance(error, NotYet) == ("did not join" in str(error) or "cannot reach" in str(error))
            return str(error)
        return ""

    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(join, processes))


def test_all_are_there_and_the_port_is_free_again(address):
    for _ in range(3):
        began = time.monotonic()
        assert together(*(Processes(address, 4, index) for index in (3, 1, 0, 2))) == [""] * 4
        assert time.monotonic() - began < 5


def test_another_number_of_processes(address):
    # jax would begin with 2 of the 3, or wait for five minutes
    for first, second in ((2, 3), (3, 2)):
        found = together(Processes(address, first, 0), Processes(address, second, 1))
        assert found[0] == found[1] and "process 1 (pid " in found[0]
        assert (
            f"--num_processes={second}, and process 0 (pid" in found[0]
            and f") with {first}; start the same" in found[0]
        )


def test_one_index_twice(address):
    found = together(*(Processes(address, 3, index) for index in (0, 1, 1)))
    assert len(set(found)) == 1 and found[0].startswith("two processes have --process_id=1 (pid ")


def test_a_missing_process_is_named(address, caplog, monkeypatch):
    monkeypatch.setattr(roll_call, "SAY", 0.5)
    with caplog.at_level(logging.INFO, "segjax"):
        found = together(Processes(address, 4, 0), Processes(address, 4, 2), wait=2)
    assert found[0] == found[1]
    assert found[0].startswith(f"2 of 4 processes (1, 3) did not join the run at {address}; start the same command")
    assert "waiting at port" in caplog.text and "for 2 of 4 processes (1, 3)" in caplog.text


def test_who_was_ended_while_it_waited_may_come_again(address):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(together, Processes(address, 3, 0))
        for _ in range(50):
            try:
                gone = socket.create_connection(roll_call._place(Processes(address, 3, 1)), timeout=5)
                break
            except OSError:
                time.sleep(0.05)
        assert receive(gone) == [roll_call.HELLO, 3]
        send([gone], [roll_call.HELLO, 3, 1, "killed"])
        gone.close()
        assert together(Processes(address, 3, 1), Processes(address, 3, 2)) == ["", ""] and first.result() == [""]


@pytest.mark.parametrize(
    "coordinator, why", [("no-such-host.invalid:4567", "no host of this name is known"), (None, "Connection refused")]
)
def test_process_0_is_out_of_reach(coordinator, why, address, caplog, monkeypatch):
    monkeypatch.setattr(roll_call, "SAY", 0.1)
    coordinator = coordinator or address
    with caplog.at_level(logging.INFO, "segjax"):
        (found,) = together(Processes(coordinator, 2, 1), wait=1)
    assert found.startswith(f"process 1 of 2 cannot reach process 0 at {coordinator} ({why}); check the host's name")
    assert f"waiting for process 0 at {coordinator} ({why})" in caplog.text


def test_what_may_pass_has_an_exit_code_of_its_own(address):
    with pytest.raises(NotYet) as found:
        call_roll(Processes(address, 2, 0), wait=0)
    assert explain(found.value) == (str(found.value), 75) and explain(UserError("x")) == ("x", 2)


def test_process_0_ends_first(address):
    with ThreadPoolExecutor(1) as pool, roll_call._listen(int(address.rpartition(":")[2]), 2) as server:
        other = pool.submit(together, Processes(address, 2, 1), wait=1)
        connection = server.accept()[0]
        send([connection], [roll_call.HELLO, 2])
        receive(connection)
        connection.close()
        server.close()
        assert "cannot reach process 0" in other.result()[0]


def test_another_program_has_the_port():
    server = http.server.ThreadingHTTPServer(("", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        first, second = together(Processes(f"127.0.0.1:{port}", 2, 0), Processes(f"127.0.0.1:{port}", 2, 1), wait=1)
    finally:
        server.shutdown()
        server.server_close()
    assert first.startswith(
        f"process 0 cannot listen at port {port} of this host (Address already in use); end the run"
    )
    assert "another program, or a run that has begun" in second


def test_strangers_are_not_counted(address):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(together, Processes(address, 2, 0))
        host, port = roll_call._place(Processes(address, 2, 1))
        for text in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"x" * 5000, b"[" * 4096 + b"\n"):
            for _ in range(50):
                try:
                    stranger = socket.create_connection((host, port), timeout=5)
                    break
                except OSError:
                    time.sleep(0.05)
            with stranger:
                stranger.sendall(text)
        assert together(Processes(address, 2, 1)) == [""] and first.result() == [""]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_process_0_started_elsewhere_is_pointed_out(host, address, caplog, monkeypatch):
    """192.0.2.1 is an address for documents, which no machine has."""
    monkeypatch.setattr(roll_call, "SAY", 0.1)
    together(Processes(f"{host}:{address.rpartition(':')[2]}", 2, 0), wait=0.5)
    assert caplog.text.count("this is process 0") == 1 and host in caplog.text
