"""A video network in the place of flow: a fresh SDC-Net returns the last flow it is given, so its chain is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.data.chains import find_chains
from segjax.errors import UserError
from segjax.models import flownets
from segjax.propagation import motion
from segjax.propagation.propagator import Propagator
from segjax.stages import propagate as stage
from segjax.weights import to_state_dict
from tests import networks
from tests.video_tools import Table, pair_flow, random_records
from tests.weights.test_torch_file import Tensor, write


def flow(a, b):
    return np.stack([pair_flow(x, y) for x, y in zip(a, b)])


@functools.cache
def load(path):
    """Stands where a run of train_video would be."""
    name = str(path)
    if name not in ("sdcnet2d", "sdcnet2d_recon"):
        raise UserError(f"there is no checkpoint in {name}.")
    options = dict(width=0.1, levels=3, flow_mean=(0.0, 0.0), flow_std=(1.0, 1.0))
    module = models.create_video(name, **options)
    t = module.frames
    inputs = jnp.zeros((1, t, 16, 16, 3)), jnp.zeros((1, t - 1, 16, 16, 2))
    variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    spec = {"name": name, "num_classes": 0, "options": options}
    return spec, variables, {"step": 7, "flow": {"name": "exact", "options": {}, "mean": (0, 0), "std": (1, 1)}}


@pytest.fixture
def checkpoint(monkeypatch):
    """Checkpoints by the names "sdcnet2d" and "sdcnet2d_recon"."""
    monkeypatch.setattr("segjax.inference.network.load_for_inference", load)


def carried(method, network, steps=3):
    table = Table((6,), size=(16, 24), every=2)
    records = random_records(table)
    run = Propagator(
        method, flow=flow, predict_motion=network.predict, variables=network.variables, batch=1, cut_histogram=0.0,
        cut_residual=0.0,
    )  # fmt: skip
    chains = find_chains(table, steps=steps, needs_before=True)
    return run(chains, lambda wanted: {i: records[i] for i in wanted})[1]


def test_a_fresh_reconstruction_carries_what_flow_carries(checkpoint):
    network = motion.open_video_network("sdcnet2d_recon", "reconstruction")
    assert network.description == "sdcnet2d_recon, step 7" and network.method == "reconstruction"
    learned, plain = carried("reconstruction", network), carried("flow", motion.open_video_network("", "flow"))
    assert len(learned) == len(plain) > 8
    for a, b in zip(learned, plain):
        assert a.chain == b.chain and a.step == b.step
        assert (a.label != b.label).mean() < 0.02  # a rounding at half a pixel may differ
        assert (np.abs(a.image.astype(int) - b.image) > 1).mean() < 0.02


@pytest.mark.slow
def test_a_fresh_prediction_goes_on_as_the_frames_before_moved(checkpoint):
    network = motion.open_video_network("sdcnet2d", "prediction")
    learned = carried("prediction", network, steps=1)
    plain = carried("flow", motion.open_video_network("", "flow"), steps=1)
    assert learned and all((a.label != b.label).mean() > 0.1 for a, b in zip(learned, plain))


def test_what_is_opened_by_default(checkpoint):
    none = motion.open_video_network("")
    assert none.method == "flow" and none.predict is None and none.description == "none"
    assert motion.open_video_network("sdcnet2d").method == "prediction"
    network = motion.open_video_network("sdcnet2d_recon")
    assert motion.choose_flow("", network) == ("exact", {}) and motion.choose_flow("", none) == ("dis", {})
    fast = {"name": "dis", "options": {"preset": "fast"}}
    assert motion.choose_flow(fast, network) == ("dis", {"preset": "fast"})
    assert motion.choose_flow("dis", network)[0] == "dis"
    with pytest.raises(UserError, match="Did you mean 'name'"):
        stage.read({"flow": {"nam": "dis"}}, "propagate")
    a, b = (random_records(Table((2,), size=(16, 24)))[i] for i in (0, 1))
    assert motion.open_flow(*motion.choose_flow(fast, network))([a], [b]).shape == (1, 16, 24, 2)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("", "reconstruction"), "needs the checkpoint"),
        (("sdcnet2d", "flow"), "uses no network"),
        (("sdcnet2d", "reconstruction"), "trained for prediction"),
        (("nowhere", "prediction"), "no checkpoint in nowhere"),
    ],
)
def test_networks_that_do_not_fit(checkpoint, arguments, said):
    with pytest.raises(UserError, match=said):
        motion.open_video_network(*arguments)


def test_a_flow_network_is_chosen_among_several_by_key(tmp_path, monkeypatch):
    """A small stand-in of FlowNet2-S: the real one has 150 MB."""
    monkeypatch.setattr(flownets, "_WIDTHS", (4, 4, 4, 4, 4, 4))
    module = models.create_flow("flownet2_s")
    shapes = jax.eval_shape(module.init, jax.random.key(0), *models.FAMILIES["flow"].inputs(module))
    one = {n: Tensor(np.zeros(v.shape, np.float32)) for n, v in to_state_dict(networks.full(shapes, 0)).items()}
    two = {f"module.{n}": Tensor(np.ones_like(t.array)) for n, t in one.items()}
    write(tmp_path / "flow.pth", {"model": one, "ema": two, "epoch": Tensor(np.array(3.0, np.float32))})
    options = {"weights": str(tmp_path / "flow.pth"), "dtype": "float32"}
    with pytest.raises(
        UserError, match=r"flow\.pth: 2 .* model .*, ema .*; choose one, as flow.options.key \(--key\)='model' does"
    ):
        motion.open_flow("flownet2_s", options)
    for key, value in (("model", 0), ("ema", 1)):
        flow = motion.open_flow("flownet2_s", {**options, "key": key})
        assert {float(x.max()) for x in jax.tree.leaves(flow._variables)} == {value}
    write(tmp_path / "flow.pth", dict(list(one.items())[1:]))
    with pytest.raises(UserError, match=r"1 leaf name .*; give the weights of this network\.$"):
        motion.open_flow("flownet2_s", options)
