"""Networks against the published PyTorch networks: those of tests/parity_rows.py.

Every network runs on the numbers in tests/fixtures. The comparison with all stored outputs and gradients takes minutes
for big networks: marked slow unless the row says `quick`.
"""

import pytest

from tests.parity_rows import MMSEG, ROWS, build
from tests.parity_tools import FIXTURES, check_eval, check_fixture, check_train

by_fixture = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if row in ROWS or row.quick else pytest.mark.slow)
        for row in ROWS + MMSEG
        if row.stored
    ],
    ids=lambda row: f"{row.name}-{row.folder}",
)
by_row_at_length = pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if row.quick else pytest.mark.slow) for row in ROWS],
    ids=lambda row: f"{row.name}-{row.folder}",
)


@by_row_at_length
@pytest.mark.parametrize("case", [0, 1])
def test_eval_outputs_equal_the_published_network(row, case, parity):
    check_eval(
        build(row), parity / row.folder, case, row.tolerances[0], unused=row.unused, added=row.added, heads=row.heads
    )


@by_row_at_length
def test_train_step_equals_the_published_network(row, parity):
    _, outputs, gradients = row.tolerances
    check_train(
        build(row, dropout=0.0), parity / row.folder, 2, outputs=outputs, gradients=gradients, buffers=row.buffers,
        unused=row.unused, added=row.added, heads=row.train_heads or row.heads,
    )  # fmt: skip


@by_row_at_length
def test_train_step_equals_the_published_network_in_float64(row, parity):
    module = build(row, dropout=0.0, dtype="float64")
    check_train(
        module, parity / row.folder, 2, outputs=1e-5, gradients=1e-5, loss=1e-5, x64=True, unused=row.unused,
        added=row.added, heads=row.train_heads or row.heads,
    )  # fmt: skip


@by_fixture
def test_eval_outputs_equal_the_stored_numbers(row):
    check_fixture(build(row), FIXTURES / f"parity_{row.folder}.npz", row.tolerances[0], heads=row.heads)
