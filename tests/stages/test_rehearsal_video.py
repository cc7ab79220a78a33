"""The programs of networks for video: those that their runs compile, from the shapes of data and of fixed networks."""

import jax
import pytest

from segjax.commands.train import train
from segjax.costs.video import frame_multiply_adds, keyframe_multiply_adds
from segjax.errors import UserError
from segjax.stages import rehearsal, train_video
from segjax.stages.config.choices import CHOICES
from segjax.stages.rehearsal import Request, rehearse
from segjax.training import compiled
from tests import tiny_network
from tests.stages.test_rehearsal import is_the_program_of

STREET = {**tiny_network.STREET, "width": 64}
SNIPPETS = {
    "dataset.options": STREET,
    "train.model.name": "tiny",
    "train.dtype": "float32",
    "train_gsvnet.batch_size": 2,
    "train_gsvnet.crop.size": (24, 48),
    "train_gsvnet.intervals": (2,),
    "train_gsvnet.eval_split": "",
    "train_gsvnet.mesh": {"data": 2},
    "train_gsvnet.total_steps": 1,
    "train_gsvnet.checkpoint_steps": 1,
    "train_gsvnet.eval_steps": 1,
}
DEVICES = jax.devices()
TRIPLES = {
    "dataset.options": STREET,
    "dataset.validation": "",
    "train_video.model": {"name": "sdcnet2d_recon", "options": {"width": 0.1, "levels": 3}},
    "train_video.batch_size": 2,
    "train_video.crop.size": (16, 32),
    "train_video.mesh": {"data": 2},
    **{f"train_video.{name}_steps": 1 for name in ("total", "checkpoint", "eval")},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tiny_network.register(monkeypatch)
    monkeypatch.setitem(CHOICES["model"].takes, "tiny", set())


class Lowered(Exception):
    """Ends a test before a program is compiled, which takes longer; its text, with shardings and donated arguments."""


def text_of(monkeypatch, make):
    """Returns the text of the step that `make` would compile."""

    def end(lowered, platform):
        raise Lowered(lowered.as_text())

    with monkeypatch.context() as patch, pytest.raises(Lowered) as found:
        patch.setattr(compiled, "compile_with_barriers", end)
        make()
    return str(found.value)


def test_snippets_are_the_program_of_the_run(tmp_path, street_dir, monkeypatch):
    monkeypatch.setenv("SEGJAX_DATA_DIR", str(street_dir))
    tiny_network.save(tmp_path / "train/checkpoints", options={"remat": False})
    own = text_of(monkeypatch, lambda: train("gsvnet", workdir=tmp_path, stage="train_gsvnet", overrides=SNIPPETS))
    request = Request(config="gsvnet", overrides=SNIPPETS, stage="train_gsvnet")
    name, mesh, program = rehearsal.find_program(request, jax.devices())
    assert own == text_of(monkeypatch, lambda: rehearsal.compile_program(program))
    assert (name, dict(mesh.shape), program.size) == ("train_gsvnet", {"data": 2}, (24, 48))
    assert (program.unit, program.images, program.frames, program.multiple) == ("snippets", 2, 3, 2)
    assert list(program.groups) == ["parameters", "optimizer", "average", "frozen", "batch"]
    # the keyframe, the last frame for its teacher, and two frames with a gradient
    keyframe, between = keyframe_multiply_adds("tiny", (24, 48)), frame_multiply_adds(program.spec, (24, 48))
    assert program.useful() == 2 * (2 * keyframe + 2 * 3 * between)


def test_triples_are_the_program_of_the_run(tmp_path, street_dir, monkeypatch):
    seen = []
    monkeypatch.setattr(train_video, "log_step_costs", lambda compiled, bucket, **_: seen.append((compiled, bucket)))
    monkeypatch.setenv("SEGJAX_DATA_DIR", str(street_dir))
    train("vplr", workdir=tmp_path, stage="train_video", overrides=TRIPLES)
    ((compiled, bucket),) = seen
    report = rehearse(Request(config="vplr", overrides=TRIPLES, stage="train_video"))
    is_the_program_of(compiled, report, devices=2)
    assert (report["unit"], report["batch"], report["frames"], bucket.batch) == ("triples", 2, 3, 2)
    assert report["size"] == [16, 32] and report["network_flops"] > 0


def test_the_fixed_network_of_a_loss_is_a_part_of_the_step():
    overrides = {"finetune_video.mesh": {"data": 2}, "finetune_video.features.model.name": "fastscnn"}
    overrides |= {"finetune_video.features.layers": ("ltd",), "finetune_video.loss": {"perceptual": 0.1}}
    asked = Request(config="vplr:finetune", stage="finetune_video", overrides=overrides)
    _, _, program = rehearsal.find_program(asked, DEVICES)
    assert program.groups["frozen"] == program.arguments[2] and jax.tree.leaves(program.arguments[2])
    assert "perceptual" in jax.eval_shape(program.step, *program.arguments)[1]


def test_the_longest_snippet_is_compiled():
    """A run reaches it in a later epoch, of which the plan does not know whether it has any."""
    overrides = {**SNIPPETS, "train_gsvnet.intervals": (1, 3), "train_gsvnet.gradient_steps": 2}
    _, _, program = rehearsal.find_program(Request(config="gsvnet", overrides=overrides, stage="train_gsvnet"), DEVICES)
    assert program.frames == 4 and program.arguments[1]["image"].shape == (2, 4, 32, 64, 3)
    keyframe, between = keyframe_multiply_adds("tiny", (24, 48)), frame_multiply_adds(program.spec, (24, 48))
    assert program.useful() == 2 * (2 * keyframe + (1 + 2 * 3) * between)  # the first frame without a gradient


def test_the_network_of_the_keyframes_has_the_dtype_of_its_stage():
    overrides = {**SNIPPETS, "train.dtype": "auto"}
    with rehearsal.made_for("tpu"):
        _, _, program = rehearsal.find_program(
            Request(config="gsvnet", overrides=overrides, stage="train_gsvnet"), DEVICES
        )
    assert program.spec["options"]["dtype"] == program.spec["keyframe"]["spec"]["options"]["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    "config, changes, said",
    [
        ("gsvnet", {"train_gsvnet.keyframe.checkpoint": "runs/gone"}, "--checkpoint=runs/gone is not a folder; give"),
        ("gsvnet", {"train_gsvnet.batch_size": 3}, "cannot be shared out among 2 devices; make it a multiple of 2."),
        (
            "gsvnet:labels=teacher,frames=drive.mp4",
            {},
            "the size of the frames of train_gsvnet.frames='drive.mp4' is not known; give --size=HEIGHTxWIDTH.",
        ),
    ],
)
def test_what_cannot_be_compiled_is_a_sentence(config, changes, said):
    with pytest.raises(UserError) as error:
        rehearse(Request(config=config, overrides={**SNIPPETS, **changes}, stage="train_gsvnet"))
    assert said in str(error.value)


def test_a_recipe_without_images_to_train_on(tmp_path):
    """Of one's own video, with a keyframe network that exists."""
    tiny_network.save(tmp_path / "checkpoints")
    overrides = {name: value for name, value in SNIPPETS.items() if not name.startswith("train.")}
    asked = Request(config=f"gsvnet:own,frames=drive.mp4,checkpoint={tmp_path}", overrides=overrides, size=(40, 72))
    name, _, program = rehearsal.find_program(asked, DEVICES)  # without --stage
    assert name == "train_gsvnet" and program.arguments[1]["image"].shape[2:4] == (32, 64)
