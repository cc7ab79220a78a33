"""A small dataset builder, and where datasets are built from it."""

import pytest

from tests.data.toy_builders import add_toy_builder


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder that holds the toy builder, importable while a module's tests run."""
    import data_builders

    before = list(data_builders.__path__)
    folder = tmp_path_factory.mktemp("builders")
    add_toy_builder(folder)
    yield folder
    data_builders.__path__[:] = before


@pytest.fixture(scope="module")
def data_dir(package, tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")
