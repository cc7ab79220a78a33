"""Runs propagation over chains of frames: reads frames, computes flow, finds scene cuts, and runs steps in batches."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from segjax import parallel
from segjax.data.chains import CUT, INPUTS, Chain
from segjax.data.flow import RecordFlow
from segjax.data.scene_cuts import CUT_HISTOGRAM, CUT_RESIDUAL, flow_residual, histogram_distance
from segjax.data.sources import Record
from segjax.errors import UserError, did_you_mean
from segjax.propagation.carry import METHODS, Ignored, PredictMotion, first_state, make_step
from segjax.propagation.flow_store import FlowStore

ReadRecords = Callable[[Sequence[int]], dict[int, Record]]


@dataclasses.dataclass(frozen=True)
class Propagated:
    """A propagated label.

    chain: that the frame belongs to.
    step: distance from the labelled frame in steps; 1 = the next frame of the chain.
    image: the propagated image, uint8 (h, w, 3).
    label: the propagated label, uint8 (h, w), 255 = ignored.
    real: the frame itself.
    ignored: shares of the pixels.
    """

    chain: Chain
    step: int
    image: np.ndarray
    label: np.ndarray
    real: Record
    ignored: Ignored


INPUT_CHOICES = ("auto", *INPUTS)  # see `Propagator`


class Propagator:
    """A propagation of labels along chains; compiled once per size of frame.

    A change of scene between two frames ends a chain, except for "truth", whose labels are right behind a cut, too.

    method: key of `propagation.carry.METHODS`. "truth" moves nothing: it returns every frame with the label that the
        dataset stores of it.
    flow: of pairs of frames, None for "copy" and "truth".
    predict_motion, variables: network of "reconstruction" and "prediction".
    batch: chains at once, on the devices of this process.
    cut_histogram: share of the pixels; a scene changes if the colour histograms of two frames differ by more. 0 = off.
    cut_residual: grey levels; a scene changes if a frame differs by more, on average, from its neighbouring frame as
        moved onto it by optical flow. For methods that use this flow. 0 = off.
    flow_bytes: memory for flow fields that later chains may use again.
    inputs: real frames that a network sees, see `Chain.inputs`. "auto" is "published" for "reconstruction", and "near"
        for "prediction", which would mistake motion over the growing gap of the published inputs for that of one step.
    options: keyword arguments of `propagation.carry.carry`.

    Raises UserError for an unknown method or `inputs`, a missing network or flow, and checks of motion for "truth".
    """

    def __init__(
        self,
        method: str,
        flow: RecordFlow | FlowStore | None = None,
        predict_motion: PredictMotion | None = None,
        variables: Any = (),
        *,
        batch: int = 8,
        cut_histogram: float = CUT_HISTOGRAM,
        cut_residual: float = CUT_RESIDUAL,
        flow_bytes: int = 2**30,
        inputs: str = "auto",
        **options: Any,
    ):
        if method not in METHODS:
            raise UserError(f"propagation method {method!r} is not known.{did_you_mean(method, METHODS)}")
        if method in ("reconstruction", "prediction") and predict_motion is None:
            raise UserError(f"method {method!r} needs the checkpoint of a video network; or use method 'flow'.")
        if inputs == "auto":
            inputs = "near" if method == "prediction" else "published"
        if inputs not in INPUTS:
            raise UserError(f"inputs={inputs!r} is not known.{did_you_mean(inputs, INPUT_CHOICES)}")
        if method == "truth":
            for name in ("max_cycle_error", "max_image_error"):
                if options.get(name, 0) > 0:
                    raise UserError(f"method 'truth' moves nothing, so there is no motion to check; set {name}=0.")
        needs_flow = method not in ("copy", "truth") or options.get("max_cycle_error", 0) > 0
        if needs_flow and flow is None:
            raise UserError(f"method {method!r} needs optical flow; name a provider, for example 'dis'.")
        self.method, self.inputs, self.options = method, inputs, options
        self.cut_histogram, self.cut_residual = cut_histogram, cut_residual
        # chains are independent, so each process propagates its own; parts of a batch must be equal on all devices
        devices = jax.local_devices()
        parts = next(n for n in range(min(len(devices), batch), 0, -1) if batch % n == 0)
        self.batch, self._mesh = batch, parallel.make_mesh({"data": -1}, devices[:parts])
        self._step = None if method == "truth" else make_step(method, predict_motion, **options)
        self._variables = parallel.replicate(variables, self._mesh)
        self._flows = flow if isinstance(flow, FlowStore) else FlowStore(flow, flow_bytes)
        self.seconds: collections.Counter[str] = collections.Counter()

    @property
    def needs_before(self) -> bool:
        """Whether the first step needs the frame on the other side of the labelled frame; true for all networks."""
        return 0 in METHODS[self.method]

    def __call__(self, chains: Sequence[Chain], read: ReadRecords) -> tuple[list[Chain], list[Propagated]]:
        """Returns (the chains, cut where scenes change; the propagated labels, in the order of chains and steps).

        chains: see `find_chains`.
        read: records -> record -> frame.

        Raises UserError for a labelled frame whose label is missing, any frame without label if the method is "truth",
        and frames or flow that cannot be read.
        """
        with self._time("read"):
            wanted = {r for chain in chains for pair in self._neighbours(chain) for r in pair}
            records = read(sorted(wanted))
        if self.method == "truth":
            return list(chains), [found for chain in chains for found in _true_labels(chain, records)]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, chain in enumerate(chains):
            if chain.records:
                groups.setdefault(records[chain.record].image.shape[:2], []).append(number)
        chains = list(chains)
        results: dict[int, list[Propagated]] = {}
        for group in groups.values():
            # chains of equal length go together: a batch takes as many steps as its longest chain
            group = sorted(group, key=lambda number: -len(chains[number].records))
            for start in range(0, len(group), self.batch):
                rows = group[start : start + self.batch]
                for row, chain in zip(rows, self._without_cuts([chains[row] for row in rows], records)):
                    chains[row] = chain
                rows = [row for row in rows if chains[row].records]
                if rows:
                    results |= zip(rows, self._carry([chains[row] for row in rows], records))
        return chains, [found for number in range(len(chains)) for found in results.get(number, ())]

    def _without_cuts(self, chains: Sequence[Chain], records: dict[int, Record]) -> list[Chain]:
        pairs = list(dict.fromkeys(pair for chain in chains for pair in self._neighbours(chain)))
        looks_at_flow = 2 in METHODS[self.method] and self.cut_residual > 0
        cut = set()
        with self._time("flow"):  # no extra work: the steps use the same flow, and the store keeps it
            flows = self._flows(pairs, records) if looks_at_flow else [None] * len(pairs)
        for (later, earlier), flow in zip(pairs, flows):
            a, b = records[later].image, records[earlier].image
            if (self.cut_histogram > 0 and histogram_distance(a, b) > self.cut_histogram) or (
                flow is not None and flow_residual(a, b, flow) > self.cut_residual
            ):
                cut.add((later, earlier))
        return [self._shorten(chain, cut) for chain in chains]

    def _neighbours(self, chain: Chain) -> list[tuple[int, int]]:
        if not chain.records:
            return []
        places = (chain.record, *chain.records)
        before = [(chain.record, chain.before)] if self.needs_before else []
        return before + list(zip(places[1:], places))

    def _shorten(self, chain: Chain, cut: set[tuple[int, int]]) -> Chain:
        pairs = self._neighbours(chain)
        first = next((number for number, pair in enumerate(pairs) if pair in cut), None)
        if first is None:
            return chain
        # a cut before the labelled frame leaves no step: the first one needs both sides
        return chain.cut(max(first - self.needs_before, 0), CUT)

    def _carry(self, chains: Sequence[Chain], records: dict[int, Record]) -> list[list[Propagated]]:
        # a batch of another size would be compiled again, so the last chain is repeated
        rows = [*chains, *chains[-1:] * (self.batch - len(chains))]
        looks_at = METHODS[self.method]
        published = self.options.get("rgb_warp") == "reference"
        with self._time("carry"):
            label = [_label(records[chain.record]) for chain in rows]
            state = first_state(self._put([records[chain.record].image for chain in rows]), self._put(label))
        steps = []
        for step in range(1, max(len(chain.records) for chain in chains) + 1):
            # a chain that has ended repeats its last step; the result is dropped
            inputs = [chain.inputs(min(step, len(chain.records)), self.inputs) for chain in rows]
            with self._time("flow"):
                frames = [[place[i] for i in looks_at] for place in inputs]
                # one call for all new pairs, so that they are computed in parallel
                self._flows(list(dict.fromkeys(pair for f in frames for pair in zip(f[1:], f))), records)
                flows = [self._flows(list(zip(f[1:], f)), records) for f in frames]
                reverse = None
                if self.options.get("max_cycle_error", 0) > 0:
                    reverse = self._flows([(place[1], place[2]) for place in inputs], records)
            with self._time("carry"):
                images = [np.stack([records[r].image for r in f]) for f in frames] if self.needs_before else None
                target = None
                if self.options.get("max_image_error", 0) > 0:
                    target = [records[place[2]].image for place in inputs]
                state, picture, ignored = self._step(
                    self._variables,
                    state,
                    self._put(images),
                    self._put([np.stack(f) for f in flows] if len(looks_at) > 1 else None),
                    self._put(target),
                    self._put(reverse),
                    first=step == 1 or not published,
                )
                steps.append((picture, state.label, ignored))
        with self._time("carry"):  # fetched once, so that the host does not wait between steps
            steps = jax.device_get(steps)
        return [
            [
                Propagated(
                    chain,
                    step,
                    picture[row],
                    label[row],
                    records[chain.records[step - 1]],
                    Ignored(*(float(share[row]) for share in ignored)),
                )
                for step, (picture, label, ignored) in enumerate(steps[: len(chain.records)], start=1)
            ]
            for row, chain in enumerate(chains)
        ]

    def _put(self, rows: Sequence[np.ndarray] | None) -> jax.Array | None:
        if rows is None:
            return None
        array = np.stack(rows)
        return jax.device_put(array, parallel.batch_sharding(self._mesh, array.ndim))

    @contextlib.contextmanager
    def _time(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start


def _true_labels(chain: Chain, records: dict[int, Record]) -> Iterator[Propagated]:
    for step, number in enumerate(chain.records, start=1):
        real = records[number]
        if real.label is None:
            raise UserError(
                f"the dataset holds no label of frame {real.name}; method 'truth' needs data whose neighbouring frames "
                "are labelled, so use method 'flow' or data with more labels."
            )
        yield Propagated(chain, step, real.image, real.label, real, Ignored(0.0, 0.0, 0.0, 0.0))


def _label(record: Record) -> np.ndarray:
    if record.label is None:
        raise UserError(f"{record.name} has no label to propagate; its mask is missing.")
    return record.label
