"""The published trees in small, written once, and where datasets are built from them."""

import pytest

from tests.data_builders import mini_trees


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """name -> (folder of the miniature tree, labels by name)."""
    made = {}
    for name in (*mini_trees.TREES, "camvid_full"):
        folder = tmp_path_factory.mktemp(name)
        made[name] = (folder, getattr(mini_trees, name)(folder))
    return made


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("built")
