"""Addresses of buckets, and the ways to misspell them."""

import pytest

from segjax.errors import UserError
from segjax.remote import Address, check_address, is_remote, read_address


def test_addresses():
    found = read_address("gs://bucket/runs/first/", "--workdir")
    assert found == Address("gs", "bucket", "runs/first") and str(found) == "gs://bucket/runs/first"
    assert str(read_address("s3://my.bucket-1", "--workdir") / "a") == "s3://my.bucket-1/a"
    assert list(map(str, found.parents)) == ["gs://bucket/runs", "gs://bucket"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gs:/bucket/x", "--workdir=gs:/bucket/x is no address of a bucket. Did you mean gs://bucket/x?"),
        ("gcs://bucket/x", "--workdir=gcs://bucket/x is no address of a bucket. Did you mean gs://bucket/x?"),
        ("GS://bucket/x", "Did you mean gs://bucket/x?"),
        ("s3a://bucket/x", "Did you mean s3://bucket/x?"),
        ("gs://", "names no bucket"),
        ("gs:///x", "names no bucket"),
        ("gs://My_Bucket/x", "names no bucket ('My_Bucket' cannot be one)"),
        ("gs://bucket//x", "has a part that is empty or has dots only"),
        ("gs://bucket/a/../b", "has a part that is empty or has dots only"),
        ("hdfs://host/x", "is a remote address that segjax cannot read; it reads and writes gs:// and s3://"),
        ("https://storage.googleapis.com/b/x", "is a remote address that segjax cannot read"),
    ],
)
def test_misspelt_addresses(text, sentence):
    assert is_remote(text)
    with pytest.raises(UserError) as found:
        check_address(text, "--workdir")
    assert sentence in str(found.value)


@pytest.mark.parametrize("path", ["runs/a", "/data/x", "~/x", "C:/runs", "C:\\runs", "a:b", "::", "", 3, None])
def test_local_paths(path):
    assert not is_remote(path)
    check_address(path, "--workdir")
