"""FlowNet2: equality with NVIDIA's network, its names and size, its files, and other files that are refused.

fixtures/flow_flownet2.npz has the outputs of NVIDIA/flownet2-pytorch on the CPU, whose three CUDA layers (correlation,
resample2d, channelnorm) were written in PyTorch from their kernels; weights by formula, "small" with all widths / 16.
"""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from segjax import models
from segjax.errors import UserError
from segjax.models.flownet2 import FlowNet2, _norm, _warped
from segjax.models.flownets import normalised_pair
from segjax.propagation import motion
from segjax.weights import to_state_dict
from tests.models.test_sdcnet import fill
from tests.parity_tools import FIXTURES, generator, torch_name
from tests.video_tools import Table, random_records
from tests.weights.test_torch_file import Tensor, write

WIDTH = 1 / 16
PARTS = ("flownetc", "flownets_1", "flownets_2", "flownets_d")


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "flow_flownet2.npz"))


def pair(h=64, w=128):
    """Blocks of 8 pixels in random colours, and the same ones moved by a few pixels; uint8."""
    blocks = generator("pair").integers(0, 256, (h // 8 + 4, w // 8 + 4, 3))
    large = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    return large[None, 8 : 8 + h, 8 : 8 + w], large[None, 10 : 10 + h, 5 : 5 + w]


def shapes_of(module):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *models.FAMILIES["flow"].inputs(module)))


@functools.cache
def run(width):
    """The flow, and the outputs of the networks in the stack."""
    module = FlowNet2(width=width)
    variables = fill(module, *models.FAMILIES["flow"].inputs(module))
    apply = functools.partial(module.apply, capture_intermediates=True, mutable="intermediates")
    flow, state = jax.jit(apply)(variables, *pair())
    return np.asarray(flow), {name: np.asarray(state["intermediates"][name]["__call__"][0]) for name in PARTS}


def near(ours, reference, tolerance):
    assert ours.shape == reference.shape and np.abs(ours - reference).max() <= tolerance * np.abs(reference).max()


def test_the_flow_equals_the_published_network(stored):
    flow, _ = run(WIDTH)
    assert flow.shape == (1, 64, 128, 2)
    near(flow[0, ::4, ::4], stored["small"], 2e-5)


@pytest.mark.parametrize("name", PARTS)
def test_each_network_of_the_stack_equals_the_published_one(name, stored):
    near(run(WIDTH)[1][name][0, ::2, ::2], stored[name], 2e-5)


@pytest.mark.slow
def test_the_whole_network_equals_the_published_one(stored):
    near(run(1.0)[0][0, ::4, ::4], stored["full"], 2e-5)


def test_names_and_parameter_count_are_the_published_ones(stored):
    leaves = flatten_dict(shapes_of(models.create_flow("flownet2")))
    assert {torch_name(path) for path in leaves} == set(stored["names"])
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves.values()) == 162_518_834
    sizes = {name: 0 for name in (*PARTS, "flownetfusion")}
    for (_, part, *_), leaf in leaves.items():
        sizes[part] += int(np.prod(leaf.shape))
    assert sizes["flownetc"] == 39_175_298 and sizes["flownets_d"] == 45_371_666 and sizes["flownetfusion"] == 581_226


def test_images_of_any_size_are_padded_by_reflection():
    first, second = (image[:, :50, :100] for image in pair())
    flow = jax.eval_shape(lambda: FlowNet2(width=WIDTH).init_with_output(jax.random.key(0), first, second)[0])
    assert flow.shape == (1, 50, 100, 2)
    found = np.asarray(normalised_pair(first, second, "float32"))
    wide = [np.pad(x.astype(np.float64), ((0, 0), (0, 14), (0, 28), (0, 0)), mode="reflect") for x in (first, second)]
    mean = np.stack(wide).mean((0, 1, 2, 3))
    np.testing.assert_allclose(found, np.concatenate([(x - mean) / 255 for x in wide], -1), atol=1e-6)


def test_brightness_error_and_length():
    rng = np.random.default_rng(0)
    x, flow = rng.normal(size=(2, 5, 6, 6)), rng.integers(-3, 4, (2, 5, 6, 2))
    warped, error = _warped(x.astype(np.float32), flow.astype(np.float32))
    rows, columns = np.clip(np.arange(5)[:, None] + flow[..., 1], 0, 4), np.clip(np.arange(6) + flow[..., 0], 0, 5)
    expected = np.stack([x[i, rows[i], columns[i], 3:] for i in range(2)])
    np.testing.assert_allclose(warped, expected, atol=1e-5)
    np.testing.assert_allclose(error[..., 0], np.linalg.norm(x[..., :3] - expected, axis=-1), atol=1e-5)
    np.testing.assert_allclose(_norm(x)[..., 0], np.linalg.norm(x, axis=-1), rtol=1e-6)


@pytest.fixture
def thin(monkeypatch):
    """Thin stand-ins of the flow networks: the published one has 650 MB."""
    monkeypatch.setitem(models.FLOW_MODELS, "flownet2", functools.partial(FlowNet2, width=WIDTH))
    monkeypatch.setattr("segjax.models.flownets._WIDTHS", (4, 4, 8, 8, 8, 8))


def released(name):
    """{"arch", "state_dict", "epoch", "best_EPE"}, as NVIDIA's files are; and the variables."""
    module = models.create_flow(name)
    variables = fill(module, *models.FAMILIES["flow"].inputs(module))
    tensors = {leaf: Tensor(value) for leaf, value in to_state_dict(variables).items()}
    return {"arch": name, "epoch": 3, "state_dict": tensors, "best_EPE": 1.5}, variables


@pytest.mark.parametrize("bgr", [False, True])
def test_a_released_file_opens_and_blue_may_be_first(thin, tmp_path, bgr):
    path = tmp_path / "FlowNet2_checkpoint.pth.tar"
    file, variables = released("flownet2")
    write(path, file)
    flow = motion.open_flow("flownet2", {"weights": str(path), "dtype": "float32", "bgr": bgr})
    for ours, expected in zip(jax.tree.leaves(flow._variables), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(ours, expected)
    seen = []

    def record(variables, first, second):
        seen.append((first, second))
        return np.zeros((*first.shape[:3], 2), np.float32)

    flow._apply = record
    records = random_records(Table((3,)))
    assert flow([records[1]], [records[0]]).shape == (1, 6, 7, 2)
    for image, one in zip(seen[0], (records[1], records[0])):
        np.testing.assert_array_equal(image[0], one.image[..., ::-1] if bgr else one.image)


def test_files_of_another_flow_network_are_named(thin, tmp_path):
    for there, asked in (("flownet2_s", "flownet2"), ("flownet2", "flownet2_s")):
        path = tmp_path / f"{there}.pth.tar"
        write(path, released(there)[0])
        with pytest.raises(UserError) as error:
            motion.open_flow(asked, {"weights": str(path)})
        assert str(error.value) == (
            f"{path} holds the weights of {there}, not of {asked}; give flow.name={there!r} (--flow={there}), or the "
            f"weights of {asked}."
        )


def test_what_cannot_be_opened(thin, tmp_path):
    path = tmp_path / "flow.pth.tar"
    file, _ = released("flownet2")
    del file["state_dict"]["flownetfusion.conv0.0.weight"]
    write(path, file)
    with pytest.raises(UserError, match=r"1 leaf name .*fusion.conv0.0.weight.*; give the weights of this"):
        motion.open_flow("flownet2", {"weights": str(path)})
    with pytest.raises(UserError, match="nothing.pth"):
        motion.open_flow("flownet2", {"weights": str(tmp_path / "nothing.pth")})
    with pytest.raises(UserError, match="flow.options.bgr='yes' must be True or False"):
        motion.open_flow("flownet2", {"weights": str(path), "bgr": "yes"})
