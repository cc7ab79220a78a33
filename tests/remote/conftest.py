"""Buckets of both protocols, on servers of this machine."""

import pytest

from segjax.remote import read_address
from tests import bucket_servers


@pytest.fixture(scope="session")
def servers():
    with (
        bucket_servers.gcs_server() as gcs,
        bucket_servers.s3_server() as s3,
        bucket_servers.proxy(gcs) as (gcs_proxy, gcs_rule),
        bucket_servers.proxy(s3) as (s3_proxy, s3_rule),
    ):
        yield {"gs": (gcs_proxy, gcs_rule), "s3": (s3_proxy, s3_rule)}


@pytest.fixture(autouse=True)
def passing(servers):
    """Both servers answer, until a test changes the rule of their proxy."""
    yield
    for _, state in servers.values():
        state.rule = lambda method, path: None


@pytest.fixture(params=["gs", "s3"])
def scheme(request):
    return request.param


@pytest.fixture
def place(scheme, servers, tmp_path, monkeypatch):
    """An empty place in a bucket, to which this process is led."""
    for name, value in bucket_servers.variables(scheme, servers[scheme][0]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "cache"))
    return read_address(f"{scheme}://{bucket_servers.BUCKET}/{tmp_path.name}", "--workdir")


@pytest.fixture
def rule(scheme, servers):
    """The proxy before the server of `place`."""
    return servers[scheme][1]
