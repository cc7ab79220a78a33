"""The step of a recipe as the TPU's compiler writes it; a process of its own, with the compiler's environment."""

import ast
import json
import math
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version

import jax

from segjax.costs import tpu
from segjax.costs.collectives import collectives, totals
from segjax.costs.hlo import instructions
from segjax.costs.slices import find_slice

TOPOLOGY = "v5e:2x2"
HOST = {"infeed", "outfeed", "send", "recv"}  # what exchanges something with the host, besides calls of it


def compiled_step(network: str, mesh: dict[str, int]) -> dict:
    """Facts of a training step, 8 crops of 128x128 with the published loss, on 4 chips of v5e; see `facts`."""
    command = [sys.executable, "-m", "tests.tpu_step", repr((network, mesh))]
    environment = tpu.environment(find_slice(TOPOLOGY).accelerator_type)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def facts(program, compiled) -> dict:
    """What the tests ask of a compiled program, as plain data.

    made_by: versions of the compilers.
    messages: kind -> how many and their bytes.
    small: all-reduces of less than 64 KiB.
    moved: origin -> bytes of what is neither summed nor exchanged with a neighbour.
    state, donated: bytes of the state on a chip, and of arguments that results replace.
    convolutions: type -> how many.
    host: instructions that reach the host.
    """
    text = compiled.as_text()
    found, moved = collectives(text), Counter()
    for one in found:
        if one.kind not in ("all-reduce", "collective-permute"):
            moved[f"{one.kind} of {one.operation}"] += one.times * one.payload
    convolutions = re.findall(r"= (\w+)\[[^\n]*? convolution\([^\n]*op_name=\"[^\"]*conv_general_dilated\"", text)
    calls = re.findall(r'custom_call_target="([^"]*callback[^"]*)"', text)
    state = jax.tree.leaves(program.arguments[0])
    shard = [leaf.sharding.shard_shape(leaf.shape) for leaf in state]
    return {
        "made_by": {name: version(name) for name in ("jax", "libtpu")},
        "messages": {kind: {"count": total.count, "payload": total.payload} for kind, total in totals(found).items()},
        "small": sum(one.times for one in found if one.kind == "all-reduce" and one.payload < 2**16),
        "moved": dict(moved),
        "state": sum(leaf.dtype.itemsize * math.prod(size) for leaf, size in zip(state, shard)),
        "donated": compiled.memory_analysis().alias_size_in_bytes,
        "convolutions": dict(Counter(convolutions)),
        "host": [one.opcode for one in instructions(text) if one.opcode.split("-")[0] in HOST] + calls,
    }


def main() -> None:
    from jax.experimental import topologies

    from segjax.ops import made_for
    from segjax.stages.rehearsal import Request, compile_program, find_program

    network, mesh = ast.literal_eval(sys.argv[1])
    overrides = {"train.model.name": network, "train.crop.size": (128, 128), "train.batch_size": 8, "train.mesh": mesh}
    request = Request(config="vplr:cityscapes,net=fastscnn,data=/nowhere", overrides=overrides, topology=TOPOLOGY)
    slice_ = find_slice(TOPOLOGY)
    devices = topologies.get_topology_desc(slice_.name, platform="tpu", **slice_.options).devices
    with made_for("tpu"):
        _, _, program = find_program(request, devices)
        compiled = compile_program(program)
    print(json.dumps(facts(program, compiled)))


if __name__ == "__main__":
    main()
