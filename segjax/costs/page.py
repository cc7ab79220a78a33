"""The page of docs/ that lists the networks: `segjax summary --all`."""

from __future__ import annotations

from collections.abc import Sequence

from segjax.costs.networks import inference_costs
from segjax.costs.programs import Workload, kept_bytes, traced_network, training_peak

PLATFORM = "gpu"  # on a CPU, convolutions and pooling are written out as other operations, which XLA fuses there
REMAT = {False: "", True: "True", "full": "full"}  # value of the option -> in the heading of its columns


def model_page(names: Sequence[str], size: tuple[int, int], *, num_classes: int = 19) -> str:
    """Returns a Markdown page with a row for each network: parameters, multiply-adds, memory of a training step.

    size: (h, w) of one image.
    """
    shown = "x".join(map(str, size))
    headings = [
        "network",
        "parameters, M",
        "multiply-adds, G",
        *(" ".join(filter(None, ("kept", remat))) for remat in REMAT.values()),
        *(" ".join(filter(None, ("peak", remat))) for remat in REMAT.values()),
        "loss weights",
    ]
    lines = [
        "# Networks",
        "",
        "Made by `segjax summary --all` (do not edit):",
        "",
        "```bash",
        f"segjax summary --all --size={shown} --output=docs/models.md",
        "```",
        "",
        f"Defaults of each network, {num_classes} classes, one image of {shown}, float32. Multiply-adds: convolutions "
        "and matrix products with learned kernels in inference, where auxiliary heads do not run; resizing, BatchNorm "
        "and activations are not counted. Kept, in GiB: what the backward pass keeps of the forward pass, auxiliary "
        "heads included. Peak, in GiB: the most that loss and gradient need at a time, beside their arguments and "
        "results. Both without recomputation, with `remat=True` and with `remat=full`, for the program of a GPU. Loss "
        "weights: as published.",
        "",
        "Stage by stage: `segjax summary --model=NAME --size=HxW`; module by module: with `--depth=3`.",
        "",
        f"| {' | '.join(headings)} |",
        "|---" * len(headings) + "|",
    ]
    lines += [_row(name, size, num_classes) for name in names]
    return "\n".join(lines) + "\n"


def _row(name: str, size: tuple[int, int], num_classes: int) -> str:
    workloads = [
        Workload(name=name, size=size, num_classes=num_classes, options={"remat": remat} if remat else {})
        for remat in REMAT
    ]
    model, variables, images = traced_network(workloads[0])
    costs = inference_costs(name, num_classes, {}, variables, images, 1)
    cells = (
        f"{sum(cost.parameters for cost in costs.values()) / 1e6:.2f}",
        _digits(sum(cost.multiply_adds for cost in costs.values()) / 1e9),
        *(_digits(kept_bytes(workload, platform=PLATFORM) / 2**30) for workload in workloads),
        *(_digits(training_peak(workload, platform=PLATFORM).temporaries / 2**30) for workload in workloads),
        ", ".join(f"{head} {weight:g}" for head, weight in model.loss_weights.items()),
    )
    return f"| `{name}` | {' | '.join(cells)} |"


def _digits(x: float) -> str:
    """Returns a number with three digits and no exponent."""
    return f"{x:.1f}" if x >= 100 else f"{x:.2f}" if x >= 1 else f"{x:.3f}"
