"""The page of docs/ that lists the networks."""

import re

import pytest

from segjax import models
from segjax.costs.page import model_page


def rows_of(page):
    """Network -> cells of its row, without what follows the table."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", page.split("## ")[0], re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in found}


@pytest.fixture
def listed(root):
    return rows_of((root / "docs" / "models.md").read_text())


def test_page_of_all_networks(listed):
    assert list(listed) == models.names(), "regenerate docs/models.md with the command in its first lines"


def test_full_recomputation_is_never_worse_than_the_usual_one(listed):
    for name, cells in listed.items():
        kept, kept_true, kept_full, peak, peak_true, peak_full = map(float, cells[2:8])
        assert kept_full <= kept_true <= kept, name
        assert peak_full <= peak_true <= peak, name


def test_rows_of_the_page():
    text = model_page(["fastscnn"], (128, 192))
    ((_, cells),) = rows_of(text).items()
    assert cells[0] == "1.14" and 0.04 < float(cells[1]) < 0.12
    kept, kept_true, kept_full, peak, peak_true, peak_full = map(float, cells[2:8])
    assert kept > kept_true >= kept_full > 0
    assert peak > peak_true and peak >= peak_full
    assert "128x192" in text and "segjax summary --all" in text
