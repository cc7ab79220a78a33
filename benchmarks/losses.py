"""What a loss costs, as a multiple of plain cross entropy: alone, and inside a training step.

    python benchmarks/losses.py                                    # all losses, forward and backward, CamVid crops
    python benchmarks/losses.py --classes 19 --size 512x1024 --batch 2
    python benchmarks/losses.py --model fastscnn                   # and the step of a network

The programs take turns, one run each, and every ratio is the median over the turns: on a machine that others use as
well, only ratios mean something, best that of processor time.
"""

import argparse
import functools
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from benchmarks import clock  # noqa: E402
from segjax import losses, models  # noqa: E402
from segjax.typing import Sum  # noqa: E402

BASE = "cross_entropy"
IN_A_STEP = (BASE, "relaxed", "relaxed, strict, histogram weights", "ohem, bound searched")


def textbook(logits, labels):
    """What cross entropy usually looks like in JAX."""
    valid = labels != 255
    log_p = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_p, jnp.where(valid, labels, 0)[..., None].astype(jnp.int32), axis=-1)[..., 0]
    return Sum(-jnp.where(valid, own, 0).sum(), valid.sum().astype(jnp.float32))


def programs(classes: int) -> dict:
    relaxed, ohem = losses.relaxed_cross_entropy, losses.ohem_cross_entropy
    return {
        BASE: losses.cross_entropy,
        "textbook cross entropy": textbook,
        "class weights": functools.partial(losses.cross_entropy, class_weights=[1.0] * classes),
        "histogram weights": functools.partial(losses.cross_entropy, upper_bound=1.0),
        "relaxed": relaxed,
        "relaxed, strict, histogram weights": functools.partial(relaxed, strict_classes=(0, 1), upper_bound=1.0),
        "relaxed, reference": functools.partial(relaxed, mode="reference", upper_bound=1.0),
        "relaxed, off_epoch": functools.partial(relaxed, off_epoch=100),
        "ohem, most are hard": functools.partial(ohem, threshold=0.99),
        "ohem, bound searched": functools.partial(ohem, threshold=0.0, min_kept=0.5),
        "soft targets of 8x8": lambda x, y: losses.soft_target_cross_entropy(x[:, ::8, ::8], y),
    }


def street(batch: int, size: tuple[int, int], classes: int) -> np.ndarray:
    """Blobs of 24 pixels and a void band: about one pixel in ten lies beside another class."""
    rng = np.random.default_rng(0)
    h, w = size
    labels = rng.integers(0, classes, (batch, -(-h // 24), -(-w // 24))).repeat(24, 1).repeat(24, 2)[:, :h, :w]
    labels[:, : h // 16] = 255
    return labels.astype(np.uint8)


def compared(times: dict) -> dict:
    """name -> median milliseconds, and medians over the turns of wall and processor time as multiples of BASE's."""
    report = {}
    for name, taken in times.items():
        wall, cpu = (statistics.median(t[i] / base[i] for t, base in zip(taken, times[BASE])) for i in (0, 1))
        ms = 1e3 * statistics.median(t[0] for t in taken)
        report[name] = {"ms": round(ms, 2), "wall": round(wall, 3), "processor": round(cpu, 3)}
    return report


def alone(logits, labels, names=()) -> dict:
    """name -> timed run of a loss with its gradient; names: of `programs`, () for all."""
    runs = {}
    for name, loss in programs(logits.shape[-1]).items():
        if not names or name in names:
            step = jax.jit(jax.value_and_grad(lambda x, y, loss=loss: loss(x, y).mean()))
            runs[name] = clock.stopwatch(functools.partial(step, logits, labels))
    return runs


def in_a_step(model: str, classes: int, labels, names, **options) -> dict:
    """name -> timed run of forward, loss, backward, SGD of a network.

    options: of the network.
    """
    module = models.create(model, classes, **options)
    images = jax.random.normal(jax.random.key(0), (*labels.shape, 3))
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.key(1), images)
    optimizer = optax.sgd(1e-3, momentum=0.9)
    rest = {name: value for name, value in variables.items() if name != "params"}
    state = variables["params"], optimizer.init(variables["params"])

    def make(loss):
        def loss_fn(params, images, labels):
            output, new = module.apply(
                {"params": params, **rest}, images, train=True, mutable=list(rest), rngs={"dropout": jax.random.key(2)}
            )
            return loss(output.logits, labels).mean(), new

        def step(state, images, labels):
            params, opt_state = state
            (value, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, images, labels)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), new, value

        return clock.stopwatch(functools.partial(jax.jit(step), state, images, labels))

    return {name: make(programs(classes)[name]) for name in names}


def made_up(size: tuple[int, int], batch: int, classes: int) -> tuple:
    """(logits (b, h, w, k), labels (b, h, w)) of a made-up street."""
    labels = jnp.asarray(street(batch, size, classes))
    return 3 * jax.random.normal(jax.random.key(0), (batch, *size, classes)), labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="352x480")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--model", default="", help=f"also inside a step of one of {', '.join(models.names())}")
    args = parser.parse_args()
    size = tuple(map(int, args.size.split("x")))
    logits, labels = made_up(size, args.batch, args.classes)

    report = {"device": jax.devices()[0].device_kind}
    report["alone"] = compared(clock.take_turns(alone(logits, labels), args.turns))
    if args.model:
        steps = in_a_step(args.model, args.classes, labels, IN_A_STEP)
        report[args.model] = compared(clock.take_turns(steps, args.turns))
    for title, rows in report.items():
        print(title if isinstance(rows, dict) else f"{title}: {rows}")
        for name, row in rows.items() if isinstance(rows, dict) else ():
            print(f"  {name:36}", json.dumps(row))


if __name__ == "__main__":
    main()
