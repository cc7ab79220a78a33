"""One of two processes that write a dataset into a run in a bucket: worker_remote_records.py WORKDIR ADDRESS INDEX."""

import sys

import numpy as np

from segjax import parallel
from segjax.data import TfdsSource
from segjax.data.derived import provenance_file
from segjax.stages.remote_run import working_folder
from segjax.stages.write_records import finish_records, write_records
from tests.data import shard_tools

GROUPS = 4

if __name__ == "__main__":
    workdir, address, index = sys.argv[1:]
    parallel.setup(coordinator=address, num_processes=2, process_id=int(index))
    with working_folder(workdir) as folder:
        shards = shard_tools.shards(folder / "propagate")
        groups = [[number] * 3 for number in range(GROUPS)]
        written = write_records(
            shards, groups, lambda group: group, lambda group: (shard_tools.contents(group[0]), {"number": group[0]})
        )
        steps = {"steps": np.int32([1, -1, 2] * GROUPS), "config": np.array("abc")}
        directory = finish_records(shards, written, extra_files={provenance_file(m): steps for m in ("jp", "lp")})
        source = TfdsSource(directory, "jp")
        total = sum(int(source[number].image.sum()) for number in range(len(source)))
        print(written.records, [note["number"] for note in written.notes], len(source), total)
