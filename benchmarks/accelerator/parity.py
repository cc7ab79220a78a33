"""A network of each family on the device, against stored outputs of the published PyTorch network.

As tests/models/test_parity_models.py does on a CPU. Products of float32 are not rounded to TF32 here; precision.py
measures what that costs. An accelerator adds in another order: SLACK times the tolerance of the CPU is allowed.
"""

from __future__ import annotations

import jax

from benchmarks.accelerator.context import Context
from benchmarks.accelerator.figures import Figures
from tests.parity_rows import MMSEG, ROWS, build
from tests.parity_tools import FIXTURES, fixture_errors

SLACK = 3


def measure(part: str, context: Context) -> Figures:
    """part: folder of a row of tests/parity_rows.py."""
    row = row_of(part)
    with jax.default_matmul_precision("highest"):
        errors = fixture_errors(build(row), FIXTURES / f"parity_{row.folder}.npz", heads=row.heads)
    worst, allowed = max(errors.values()), SLACK * row.tolerances[0]
    return {"network": row.name, "error / max": worst, "allowed": allowed, "holds": worst <= allowed}


def row_of(folder: str):
    """The row of tests/parity_rows.py with a folder."""
    return next(row for row in [*ROWS, *MMSEG] if row.folder == folder)
