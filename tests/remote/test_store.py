"""Requests to a bucket, and its errors as sentences."""

import threading

import pytest

from segjax.errors import UserError
from segjax.remote import Address, RemoteError, Store, store


def test_objects(place):
    found = Store(place)
    assert found.names() == [] and found.read("a") is None
    found.delete("a")
    for name, data in {"a": b"", "b/c d": b"two", "b/ü%+#?&.txt": b"\0" * 100_000}.items():
        found.write(name, data)
        assert found.read(name) == data
    found.write("a", b"new")
    Store(Address(place.scheme, place.bucket, f"{place.path}-beside")).write("x", b"1")
    assert found.names() == ["a", "b/c d", "b/ü%+#?&.txt"] and found.read("a") == b"new"
    found.delete("a")
    assert found.names() == ["b/c d", "b/ü%+#?&.txt"]


@pytest.mark.parametrize(
    ("status", "text", "sentence"),
    [
        (403, "AccessDenied", "no permission for the bucket .403.; give this account the right to list, read, write"),
        (401, "Invalid Credentials", "no permission for the bucket .401.*or log in"),
        (
            507,
            "Insufficient Storage",
            "the bucket is full, or its quota is used up; free some of it or raise the quota",
        ),
        (403, "The project has exceeded its quota: quotaExceeded", "the bucket is full, or its quota"),
        (404, "The specified bucket does not exist", "there is no bucket 'tests'; check the name"),
    ],
)
def test_a_bucket_that_refuses_is_one_sentence(place, rule, status, text, sentence):
    rule.rule = lambda method, path: (status, text)
    with pytest.raises(RemoteError, match=sentence) as found:
        Store(place).write("a", b"1")
    assert not found.value.passing and str(found.value).startswith(f"{place}/a cannot be written: ")
    assert "\n" not in str(found.value)


def test_a_short_failure_is_tried_again(place, rule):
    failures = iter([(503, "busy"), (500, "oops")])
    rule.rule = lambda method, path: next(failures, None)
    Store(place).write("a", b"1")
    assert Store(place).read("a") == b"1"


def test_a_bucket_that_does_not_answer(place, rule, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    answered = threading.Event()
    rule.rule = lambda method, path: 0 if answered.wait(30) else 0
    try:
        with pytest.raises(RemoteError, match="cannot be read: the bucket does not answer in 0 s") as found:
            Store(place).read("a")
        assert found.value.passing
    finally:
        answered.set()


def test_a_server_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", "http://127.0.0.1:1")
    with pytest.raises(RemoteError, match="gs://tests/x cannot be listed .*the same command resumes") as found:
        Store(Address("gs", "tests", "x")).names()
    assert found.value.passing and isinstance(found.value, UserError)
