"""The program of a recipe without data, weights and devices is the one that the recipe's own run compiles."""

import ast

import jax
import pytest

from segjax.commands.train import train
from segjax.costs import tpu
from segjax.costs.program import program_costs
from segjax.errors import UserError
from segjax.stages import rehearsal
from segjax.stages import train as train_stage
from segjax.stages.config.choices import CHOICES
from segjax.stages.rehearsal import Request, rehearse
from segjax.training.memory import memory_plan
from tests import tiny_network
from tests.tiny_network import STREET

TINY = {
    "dataset.options": STREET,
    "dataset.validation": "",
    "train.model.name": "tiny",
    "train.batch_size": 2,
    "train.crop.size": (16, 24),
    "train.mesh": {"data": 2, "space": 1},
    "train.total_epochs": 1,
}
CONFIG = "vplr:propagate=none"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tiny_network.register(monkeypatch)
    monkeypatch.setitem(CHOICES["model"].takes, "tiny", set())


def request(**changes):
    return Request(**{"config": CONFIG, "overrides": TINY, "size": (32, 48), **changes})


def is_the_program_of(compiled, report, *, devices):
    """Memory, FLOPs and messages of a report are those of a step that a training has compiled."""
    own = memory_plan(compiled, groups={})
    assert report["memory"]["needed"] == own.needed
    assert report["memory"]["temporaries"] == own.program["temporaries"]
    costs = program_costs(compiled, devices=devices, platform="cpu")
    assert (report["flops"], report["accessed"]) == (costs.flops, costs.accessed)
    assert {kind: total["sent"] for kind, total in report["collectives"].items()} == {
        kind: total.sent for kind, total in costs.collectives.items()
    }


def test_it_is_the_program_of_the_run(tmp_path, monkeypatch):
    """Memory, FLOPs and messages are those of the step that the training itself compiles, from data and weights."""
    seen = []
    monkeypatch.setattr(train_stage, "log_step_costs", lambda compiled, bucket, **_: seen.append((compiled, bucket)))
    monkeypatch.setenv("SEGJAX_DATA_DIR", str(tmp_path / "data"))
    train(CONFIG, workdir=tmp_path / "run", stage="train", overrides=TINY)
    ((compiled, bucket),) = seen
    report = rehearse(request())
    assert (report["batch"], tuple(report["size"])) == (bucket.batch, bucket.crop)
    is_the_program_of(compiled, report, devices=2)
    assert report["memory"]["fits"] and report["bounds"] is None  # the table has no figures of a CPU


def test_messages_grow_as_theory_says():
    """Each device sends 2 (n - 1) / n of what is summed: gradients of all parameters, and statistics of the norms."""
    two, eight = (
        rehearse(request(overrides={**TINY, "train.batch_size": 8, "train.mesh": {"data": count, "space": 1}}))
        for count in (2, 8)
    )
    assert list(two["collectives"]) == list(eight["collectives"]) == ["all-reduce"]
    ours, theirs = two["collectives"]["all-reduce"], eight["collectives"]["all-reduce"]
    # the momentum is as large as the parameters; the auxiliary head, a third of them, has no term of the loss
    assert ours["payload"] == theirs["payload"] > two["memory"]["optimizer"] / 2
    assert ours["sent"] == ours["payload"] and theirs["sent"] == 2 * 7 / 8 * theirs["payload"]
    assert two["memory"]["batch"] == 4 * eight["memory"]["batch"]


def test_groups_of_images_leave_two_messages_of_a_micro_batch(monkeypatch):
    """At its end; without them the norms exchange their statistics one after the other."""
    monkeypatch.setitem(CHOICES["model"].takes, "tiny", {"bn_groups"})
    same = {**TINY, "train.batch_size": 8, "train.accumulate_steps": 2}
    one, two = (rehearse(request(overrides={**same, "train.model.options.bn_groups": n})) for n in (1, 2))
    assert (one["bn_groups"], two["bn_groups"], two["multiple"]) == (1, 2, 4)
    count = lambda found: found["collectives"]["all-reduce"]["count"]  # noqa: E731
    assert count(one) >= 2 * 2 * 3 and count(two) <= 2 * 2
    assert two["small_all_reduces"]["count"] <= count(two) and two["small_all_reduces"]["dominate"] is None


def test_an_evaluation_and_a_prediction():
    report = rehearse(request(what="evaluate", overrides={**TINY, "evaluate.batch_size": 3}))
    assert (report["stage"], report["batch"], report["size"]) == ("evaluate", 8, [32, 48])  # of 8 devices
    assert report["memory"]["batch"] == 32 * 48 * 3
    report = rehearse(request(what="predict", batch=2))
    assert (report["mesh"], report["batch"], report["collectives"]) == ({"data": 1}, 2, {})


def test_another_platform_gets_its_dtype():
    with jax.disable_jit(False), rehearsal.made_for("tpu"):
        _, _, program = rehearsal.find_program(request(), jax.devices())
    assert program.spec["options"]["dtype"] == "bfloat16"
    _, _, program = rehearsal.find_program(request(), jax.devices())
    assert program.spec["options"]["dtype"] == "float32"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"batch": 3}, "train.batch_size=3 cannot be shared out among 2 devices; make it a multiple of 2"),
        ({"batch": 3}, "or split the height too, with --set train.mesh.data=1 train.mesh.space=2."),
        (
            {"overrides": {**TINY, "train.accumulate_steps": 2}},
            "batch_size=2 cannot be shared out among 2 devices in 2 micro-batches; make it a multiple of 4",
        ),
        (
            {"overrides": {**TINY, "train.model.options.bn_groups": 2}},
            "bn_groups means nothing to 'tiny', it is an option",
        ),
        (
            {"changes": {"model": {"name": "tiny", "options": {"bn_groups": 4}}}},
            "train.batch_size=2 cannot be divided into train.model.options.bn_groups=4 groups of as many images each; "
            "make it a multiple of 4.",
        ),
        ({"stage": "trian"}, "--stage=trian is not a stage of this recipe. Did you mean"),
        ({"stage": "evaluate"}, "--stage=evaluate is of kind evaluate, and --what=train compiles stages of kind train"),
        ({"overrides": {**TINY, "stages": ("train",)}, "what": "evaluate"}, "has no stage of kind evaluate"),
        ({"changes": {"mesh": {"data": 16}}}, "mesh (data=16) needs 16 devices"),
        ({"topology": "v5e:3x3"}, "v5e has no slice of the shape '3x3'"),
        ({"config": "vplr:own,images=/a,masks=/b,label_map=cityscapes", "overrides": {}, "size": None}, "--size="),
    ],
)
def test_what_cannot_be_compiled_is_a_sentence(changes, said):
    with pytest.raises(UserError) as error:
        rehearse(request(**changes))
    assert said in str(error.value)


def test_without_the_compiler_a_sentence_names_the_remedy(monkeypatch):
    monkeypatch.setattr(tpu.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'segjax\[tpu\]'"):
        rehearse(request(topology="v5e:2x2"))


def fake_process(monkeypatch, capsys, report_of):
    """Runs the file of the process in this one, with the devices of this process in the place of the slice."""
    from jax.experimental import topologies

    asked = {}

    def run(command, env, **_):
        asked.update(env, request=ast.literal_eval(command[-1]))
        monkeypatch.setattr(rehearsal.sys, "argv", command[2:])
        code = 0
        try:
            rehearsal.main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return type("Done", (), {"returncode": code, "stdout": printed.out, "stderr": printed.err})

    topology = type("Topology", (), {"devices": jax.devices()[:4]})
    monkeypatch.setattr(topologies, "get_topology_desc", lambda name, platform, **options: topology)
    monkeypatch.setattr(rehearsal.tpu, "missing", lambda: "")
    monkeypatch.setattr(rehearsal.subprocess, "run", run)
    monkeypatch.setattr(rehearsal, "report_of", report_of)
    return asked


def test_the_process_gets_the_whole_request(monkeypatch, capsys):
    found = []
    asked = fake_process(monkeypatch, capsys, lambda *arguments: found.append(arguments) or {"batch": 7})
    assert rehearse(request(topology="v5e:2x2", changes={"remat": "full"})) == {"batch": 7}
    ((sent, devices, slice_),) = found
    assert sent == request(topology="v5e:2x2", changes={"remat": "full"}) and len(devices) == 4
    assert slice_.accelerator_type == asked["TPU_ACCELERATOR_TYPE"] == "v5litepod-4"
    assert asked["JAX_PLATFORMS"] == "cpu"


def test_a_sentence_of_the_process_is_its_error(monkeypatch, capsys):
    def wrong(*_):
        raise UserError("the batch is wrong.")

    fake_process(monkeypatch, capsys, wrong)
    with pytest.raises(UserError, match="^the batch is wrong.$"):
        rehearse(request(topology="v5e:2x2"))


def test_a_killed_process_is_a_sentence(monkeypatch):
    monkeypatch.setattr(rehearsal.tpu, "missing", lambda: "")
    killed = type("Done", (), {"returncode": -9, "stdout": "", "stderr": ""})
    monkeypatch.setattr(rehearsal.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(UserError, match="train for v5e:2x2 failed: the compiler was killed, perhaps for this machine"):
        rehearse(request(topology="v5e:2x2"))


def refuse(monkeypatch, text):
    def compile_step(*_):
        raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(rehearsal, "compile_step", compile_step)


def test_a_program_that_the_compiler_refuses_does_not_fit(monkeypatch):
    refuse(
        monkeypatch,
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.50G of "
        "15.75G hbm. Exceeded hbm capacity by 4.75G.",
    )
    report = rehearse(request())
    assert report["memory"]["needed"] == int(20.5 * 2**30) and report["memory"]["has"] == int(15.75 * 2**30)
    assert not report["memory"]["fits"] and report["memory"]["batch"] and "flops" not in report
    refuse(monkeypatch, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes")
    report = rehearse(request())
    assert report["memory"]["needed"] is None and not report["memory"]["fits"]


def test_another_failure_of_the_compiler_is_a_sentence(monkeypatch):
    refuse(monkeypatch, "INTERNAL: Mosaic failed\nto compile")
    with pytest.raises(UserError, match="^the compiler failed: INTERNAL: Mosaic failed to compile"):
        rehearse(request())
    refuse(monkeypatch, "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 130.0M of 128.0M vmem.")
    with pytest.raises(UserError, match="^the compiler failed: RESOURCE_EXHAUSTED"):
        rehearse(request())


@pytest.mark.parametrize("method", ["soft", "consistency"])
def test_labels_that_a_run_would_make_first_are_not_needed(method):
    """Soft labels are read from another stage's files, and those of "online" parts are made by the step."""
    tiny_student = {"student.model.name": "tiny", "student.crop.size": (16, 24)}
    asked = Request(config=f"csst:method={method}", overrides=tiny_student, stage="student")
    _, _, program = rehearsal.find_program(asked, jax.devices()[:1])
    assert ("soft_ids" in program.arguments[1]) == (method == "soft")
    state, metrics = jax.eval_shape(program.step, *program.arguments)
    assert metrics["loss"].shape == () and "loss/real" in metrics


@pytest.mark.slow
@pytest.mark.skipif(bool(tpu.missing()), reason="libtpu is not installed")
@pytest.mark.parametrize("mesh, groups", [({"data": 4}, 1), ({"data": 4}, 4), ({"data": 2, "space": 2}, 1)])
def test_the_compiler_of_tpus_plans_a_whole_step(mesh, groups):
    report = rehearse(
        Request(
            config="vplr:cityscapes,net=fastscnn,data=/nowhere",
            overrides={
                "train.crop.size": (128, 128),
                "train.mesh": mesh,
                "train.batch_size": 8,
                "train.model.options.bn_groups": groups,
            },
            topology="v5e:2x2",
        )
    )
    assert report["dtype"] == "bfloat16" and report["memory"]["fits"]
    assert report["memory"]["has"] == 16 * 2**30
    reduced = report["collectives"]["all-reduce"]
    assert reduced["payload"] > report["memory"]["optimizer"] / 2 * 0.95  # gradients in bfloat16, but for the last bias
    small = report["small_all_reduces"]
    if "space" not in mesh and groups == 1:
        assert reduced["count"] == 82  # gradients together, the loss, and one of each of 40 norms forward and backward
        assert small["count"] == 81 and small["dominate"]
    if groups == 4:  # gradients, statistics, and the loss
        assert reduced["count"] == 3 and not small["dominate"]
    assert report["bounds"]["images_per_second"] > 0 and 0 < report["bounds"]["mfu"] <= 1
    assert ("collective-permute" in report["collectives"]) == ("space" in mesh)
