"""Lists of the records that a training uses, as text files in the folder of its stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jax

from segjax.data import Source
from segjax.data.plans import Extra
from segjax.files import write_file


def write_record_lists(folder: Path, real: Source, extras: Sequence[Extra]) -> None:
    """Writes records-real.txt, and records-NAME.txt for each part of the extra data: one name per line.

    folder: of the stage. real: labelled records of the split. extras: other parts.
    """
    if jax.process_index() != 0:
        return
    for name, source in (("real", real), *((extra.name, extra.source) for extra in extras)):
        name = re.sub(r"[^\w.-]+", "-", name).strip("-")  # a part may be called by the path of a folder
        write_file(folder / f"records-{name}.txt", "".join(f"{record}\n" for record in source.names), durable=False)
