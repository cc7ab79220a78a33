"""A small dataset builder, and where datasets are built from it."""

import pytest

from tests.data.toy_builders import importable_toy


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder that holds the toy builder, importable while a module's tests run."""
    with importable_toy(tmp_path_factory.mktemp("builders")) as folder:
        yield folder


@pytest.fixture(scope="module")
def data_dir(package, tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")
