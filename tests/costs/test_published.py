"""Sizes and operations against published ones, and the tables of docs/ that show them."""

import re

import pytest

from segjax.costs.published import LADDERS, PUBLISHED, comparison, ladder_field

QUICK = (
    "Tables 1, 2, 5, 9",
    "Tables 1, 5: ResNet18",
)  # the figures of all rows are in docs/, which are looked at below
rows = [
    pytest.param(row, marks=() if row in PUBLISHED or row.source.startswith(QUICK) else pytest.mark.slow)
    for row in PUBLISHED + LADDERS
]


@pytest.mark.parametrize("published", rows, ids=lambda row: f"{row.name}-{row.source}")
def test_figures_are_the_published_ones(published):
    """Rounded by their authors; the distance of the nearest network where none fits."""
    ours = published.ours()
    assert ours.multiply_adds == pytest.approx(published.multiply_adds, rel=published.within)
    assert ours.parameters == pytest.approx(published.parameters, rel=0, abs=published.parameters_within)


def test_rows_that_fit_no_network_say_so():
    """All others are within 1 % of the operations and 0.06 M of the parameters."""
    wide = {row.source for row in LADDERS if row.within > 0.01 or row.parameters_within > 0.06e6}
    assert wide == {row.source for row in LADDERS if row.source.endswith("(nearest)")} and len(wide) == 3


def test_tables_of_the_page_have_every_row_within_its_limits(root):
    """The figures that docs/models.md shows, which are those of `segjax summary --all`."""
    page = (root / "docs" / "models.md").read_text().split("### Ladder DenseNets")[1]
    found = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| Tables? ", line)]
    assert [cells[0] for cells in found] == [row.source for row in LADDERS]
    for cells, row in zip(found, LADDERS):
        assert cells[1].startswith(f"`{row.name}")
        assert float(cells[2]) * 1e6 == row.parameters and float(cells[4]) * 1e9 == pytest.approx(row.multiply_adds)
        assert float(cells[3]) == pytest.approx(float(cells[2]), rel=0, abs=row.parameters_within / 1e6 + 1e-3)
        assert float(cells[5]) == pytest.approx(float(cells[4]), rel=row.within)


def test_a_page_without_ladders_has_no_table_of_them():
    text = comparison(["fastscnn"])
    assert "| `fastscnn` | 1024x2048 | 6.71 | 6.708 |" in text and "Ladder" not in text


@pytest.mark.parametrize("name, layout, expected", [("lrn18", "32to4", 435), ("lrn18", "64to4", 0)])
def test_receptive_field_of_a_layout(name, layout, expected):
    """ResNet-18: 435, as published (Araujo et al., Distill 2019); 0 for a layout that does not fit."""
    assert ladder_field(name, layout) == expected
