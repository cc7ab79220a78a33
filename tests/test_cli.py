"""The console command: arguments, one-line errors and exit codes, and what each command prints."""

import argparse
import subprocess
import sys

import cv2
import numpy as np
import pytest

from segjax import cli, visualize
from segjax.commands import values
from segjax.media.writers import write_png
from tests import stand_in


def shell(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "segjax.cli", *map(str, words)], capture_output=True, text=True, cwd=cwd
    )


def fails(capsys, *words) -> str:
    """Runs a command that must end with exit code 2 and one line; returns the line."""
    assert cli.main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("segjax: error: ") and captured.err.count("\n") == 1
    return captured.err


# Arguments


def test_flags_take_equals_space_hyphen_and_underscore():
    want = cli.parse(["summary", "--model=fastscnn", "--size=64x128", "--num-classes=5"])
    for words in (
        ["summary", "--model", "fastscnn", "--size", "64x128", "--num_classes", "5"],
        ["summary", "--num_classes=5", "--model=fastscnn", "--size=64X128"],
    ):
        assert cli.parse(words) == want
    assert want.size == (64, 128) and want.num_classes == 5
    data = ["--images=a_b", "--masks=c_d", "--label_map=my_map.json"]
    assert cli.parse(["check-data", *data]) == cli.parse(["check_data", *data])
    assert cli.parse(["check_data", *data]).label_map == "my_map.json"  # values keep their underscores


def test_predict_arguments():
    needed = ["predict", "--checkpoint=c", "--input=i", "--output=o"]
    plain = cli.parse(needed)
    assert plain.scales == [[1.0]] and not plain.flip and plain.window is None and plain.write == ["overlay", "ids"]
    for words in (["--scales", "0.5", "1", "2"], ["--scales=0.5,1,2"]):
        assert sum(cli.parse([*needed, *words]).scales, []) == [0.5, 1.0, 2.0]
    assert cli.parse([*needed, "--window=360x480", "--flip"]).window == (360, 480)


@pytest.mark.parametrize(
    "text, want",
    [
        ("a=1", ("a", 1)),
        ("a=1.5", ("a", 1.5)),
        ("a=true", ("a", True)),
        ("a=None", ("a", None)),
        ("a=bfloat16", ("a", "bfloat16")),
        ("a=(6,12,18)", ("a", (6, 12, 18))),
    ],
)
def test_options_are_typed(text, want):
    assert values.option(text) == want


def test_files_with_a_name():
    assert values.file_of("train=1_0=a.txt") == ("train", "1_0=a.txt")
    for text in ("train", "=a.txt", "train="):
        with pytest.raises(argparse.ArgumentTypeError, match="train=train.txt"):
            values.file_of(text)


@pytest.mark.parametrize("read, text", [(values.size, "²x2"), (values.positive_int, "²"), (values.whole, "①")])
def test_only_decimal_digits_are_numbers(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        read(text)


@pytest.mark.parametrize(
    "words, said",
    [
        (["summry"], "Did you mean 'summary'?"),
        (["summary", "--modle=fastscnn", "--size=64x64"], "Did you mean '--model'?"),
        (["summary", "--model=fastscnn"], "--size"),
        (["summary", "--model=fastscnn", "--size=64"], "HEIGHTxWIDTH"),
        (["summary", "--model=fastscnn", "--size=0x64"], "HEIGHTxWIDTH"),
        (["summary", "--model=fastscn", "--size=64x64"], "Did you mean 'fastscnn'?"),
        (["summary", "--model=fastscnn", "--size=64x64", "--option", "dtyp=float32"], "Did you mean 'dtype'?"),
        (["summary", "--model=fastscnn", "--size=64x64", "--option", "dtype"], "name=value"),
        (["summary", "--model=fastscnn", "--size=64x64", "extra"], "extra"),
        (["predict", "--checkpoint=c", "--output=o"], "--input"),
        (["predict", "--checkpoint=c", "--input=i", "--output=o", "--scales", "0"], "scale"),
        (["predict", "--checkpoint=c", "--input=i", "--output=o", "--scales", "big"], "scale|number"),
        (["predict", "--checkpoint=c", "--input=i", "--output=o", "--overlap=1.5"], "share"),
        (["predict", "--checkpoint=c", "--input=i", "--output=o", "--overlap=1"], "overlap"),
        (["predict", "--checkpoint=c", "--input=i", "--output=o", "--batch=0"], "at least 1"),
        (["predict", "--checkpoint=c", "--input=nowhere", "--output=o"], "nowhere does not exist"),
    ],
)
def test_one_sentence_for_every_mistake(capsys, words, said):
    import re

    assert re.search(said, fails(capsys, *words))


def test_exit_codes_of_the_process(tmp_path, root):
    """In a process of its own: nothing on stdout, one line on stderr, no traceback."""
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    result = shell("predict", "--checkpoint=c", f"--input={tmp_path}/broken.mp4", f"--output={tmp_path}/o", cwd=root)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("segjax: error: ") and result.stderr.count("\n") == 1
    assert "broken.mp4" in result.stderr


def test_help_names_every_command_and_loads_nothing_heavy(root):
    code = (
        "import sys; from segjax import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'jax', 'numpy', 'matplotlib', 'flax', 'cv2', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stderr
    for command in cli.COMMANDS:
        assert command in result.stdout


def test_no_arguments_show_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert stop.value.code == 0 and "check_data" in capsys.readouterr().out


def test_errors_of_the_system_are_one_line(capsys, monkeypatch):
    def full(arguments):
        raise OSError(28, "No space left on device", "out/a.png")

    _, describe, text = cli.COMMANDS["summary"]
    monkeypatch.setitem(cli.COMMANDS, "summary", (full, describe, text))
    said = fails(capsys, "summary", "--model=fastscnn", "--size=64x64")
    assert "out/a.png: No space left on device; check the path, its permissions and the free space" in said


def test_our_own_bugs_keep_their_traceback(monkeypatch):
    def bug(arguments):
        raise KeyError("no such thing")

    _, describe, text = cli.COMMANDS["summary"]
    monkeypatch.setitem(cli.COMMANDS, "summary", (bug, describe, text))
    with pytest.raises(KeyError):
        cli.main(["summary", "--model=fastscnn", "--size=64x64"])


# summary


def test_summary(capsys):
    assert cli.main(["summary", "--model=fastscnn", "--size=128x256", "--depth=1", "--num_classes=7"]) == 0
    out = capsys.readouterr().out
    assert "total" in out and "multiply-adds" in out and "7 classes" in out
    assert "backward" in out


def test_summary_of_all_writes_a_page(monkeypatch, tmp_path, capsys):
    from segjax import models

    monkeypatch.setattr(models, "names", lambda: ["fastscnn"])
    page = tmp_path / "models.md"
    assert cli.main(["summary", "--all", "--size=64x96", "--num-classes=7", f"--output={page}"]) == 0
    assert "| `fastscnn` |" in page.read_text() and "7 classes" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_summary_with_compile_tells_what_is_planned(monkeypatch, capsys):
    import flax.linen as nn

    from segjax import models
    from segjax.costs import tpu
    from segjax.models.layers import Conv, ImageNetwork
    from segjax.typing import SegOutput

    class OneConvolution(ImageNetwork):
        loss_weights = {"logits": 1.0}

        @nn.compact
        def __call__(self, images, train=False):
            return SegOutput(Conv(self.num_classes, name="conv")(images))

    monkeypatch.setitem(models.MODELS, "one", OneConvolution)
    monkeypatch.setattr(tpu, "missing", lambda: "")
    monkeypatch.setattr(tpu, "compiled_bytes", lambda workload, program: 5 * 2**20)
    assert cli.main(["summary", "--model=one", "--size=32x32", "--compile"]) == 0
    out = capsys.readouterr().out
    assert "inference, compiled: " in out and "loss and gradient, compiled: " in out
    assert "MiB on cpu beside" in out and out.count("5.0 MiB on a TPU v5e:2x2") == 2
    monkeypatch.setattr(tpu, "missing", lambda: "no compiler; install it")
    assert cli.main(["summary", "--model=one", "--size=32x32", "--compile"]) == 0
    out = capsys.readouterr().out
    assert out.count("no compiler; install it") == 1 and "a TPU" not in out


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "one network"),
        (["--all", "--model=fastscnn"], "one network"),
        (["--model=fastscnn", "--output=x"], "--output=x"),
        (["--all", "--option", "aux=true"], "leave out --option"),
        (["--all", "--compile"], "leave out --option, --compile"),
    ],
)
def test_summary_refuses_flags_that_do_not_go_together(capsys, words, text):
    assert text in fails(capsys, "summary", "--size=64x64", *words)


# check_data


@pytest.fixture
def folders(tmp_path):
    for i in range(3):
        write_png(tmp_path / f"images/{i}.png", np.full((24, 32, 3), 60 * i, np.uint8))
        write_png(tmp_path / f"masks/{i}.png", np.repeat(np.arange(4, dtype=np.uint8)[:, None].repeat(6, 0), 32, 1))
    return tmp_path


def test_check_data_writes_a_label_map_and_a_sheet(folders, capsys):
    code = cli.main(
        ["check_data", f"--images={folders}/images", f"--masks={folders}/masks", f"--output={folders}/check"]
    )
    assert code == 0, capsys.readouterr().out
    sheet = cv2.imread(str(folders / "check/overlay.png"))
    assert sheet is not None and sheet.shape[1] > 1000
    assert (folders / "check/label_map.json").is_file()


def test_check_data_ends_with_1_when_something_is_wrong(folders, capsys):
    write_png(folders / "masks/1.png", np.zeros((5, 5), np.uint8))
    code = cli.main(
        ["check_data", f"--images={folders}/images", f"--masks={folders}/masks", f"--output={folders}/check"]
    )
    assert code == 1 and "1.png" in capsys.readouterr().out


def test_check_data_names_a_missing_folder(folders, capsys):
    assert "nowhere" in fails(capsys, "check_data", f"--images={folders}/nowhere", f"--masks={folders}/masks")


# predict, with a network that needs no checkpoint


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setattr("segjax.inference.files.open_labelling", stand_in.open_brightness)


def test_predict_end_to_end(brightness, tmp_path, capsys):
    for i, value in enumerate((5, 130, 250)):
        write_png(tmp_path / f"in/{i}.png", np.full((20, 30, 3), value, np.uint8))
    words = ["predict", "--checkpoint=good", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    assert cli.main([*words, "--scales", "0.5", "1", "--flip", "--window=16x16", "--batch=2"]) == 0
    for i in range(3):
        ids = cv2.imread(str(tmp_path / f"out/ids/{i}.png"), cv2.IMREAD_UNCHANGED)
        assert ids.shape == (20, 30) and (ids == i).all()
    out = capsys.readouterr().out
    assert "3 images" in out and "images/s" in out and str(tmp_path / "out/overlay") in out


def test_predict_writes_the_confidence(brightness, tmp_path):
    write_png(tmp_path / "a.png", np.full((20, 30, 3), 255, np.uint8))
    words = ["predict", "--checkpoint=good", f"--input={tmp_path}/a.png", f"--output={tmp_path}/out"]
    assert cli.main([*words, "--write", "ids", "confidence"]) == 0
    picture = cv2.imread(str(tmp_path / "out/confidence/a.png"), cv2.IMREAD_UNCHANGED)
    shares = np.exp([-1.0, -0.5, 0.0]) / np.exp([-1.0, -0.5, 0.0]).sum()  # of dark, grey and bright
    assert picture.shape == (20, 30) and picture.dtype == np.uint8 and (picture == round(255 * shares[2])).all()


def test_predict_writes_the_entropy(brightness, tmp_path):
    write_png(tmp_path / "a.png", np.full((20, 30, 3), 255, np.uint8))
    words = ["predict", "--checkpoint=good", f"--input={tmp_path}/a.png", f"--output={tmp_path}/out"]
    assert cli.main([*words, "--write", "ids", "entropy", "--scales=1", "--flip"]) == 0
    shares = np.exp([-1.0, -0.5, 0.0]) / np.exp([-1.0, -0.5, 0.0]).sum()  # of dark, grey and bright
    entropy = np.full((20, 30), -(shares * np.log(shares)).sum() / np.log(3))
    picture = cv2.imread(str(tmp_path / "out/entropy/a.png"))[..., ::-1]
    assert np.array_equal(picture, visualize.share_to_color(entropy))


def test_predict_reports_what_it_could_not_read(brightness, tmp_path, capsys):
    write_png(tmp_path / "in/a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "in/b.png").write_bytes(b"no image")
    said = fails(capsys, "predict", "--checkpoint=good", f"--input={tmp_path}/in", f"--output={tmp_path}/out")
    assert "b.png" in said and "; 1 image is predicted all the same" in said
    assert (tmp_path / "out/ids/a.png").is_file()


def test_predict_lists_every_input_it_could_not_read(brightness, tmp_path, capsys):
    write_png(tmp_path / "in/a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "in/b.png").write_bytes(b"no image")
    (tmp_path / "in/c.mp4").write_bytes(b"no video")
    words = ["predict", "--checkpoint=good", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    assert cli.main(words) == 2
    first, second, last = capsys.readouterr().err.splitlines()
    assert "b.png is damaged" in first and "c.mp4 cannot be opened" in second
    assert last.endswith("2 inputs cannot be predicted, as listed above; 1 image is predicted all the same")


def test_predict_names_a_missing_checkpoint(brightness, tmp_path, capsys):
    write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    said = fails(capsys, "predict", "--checkpoint=bad", f"--input={tmp_path}/a.png", f"--output={tmp_path}/out")
    assert "no checkpoint in bad" in said and not (tmp_path / "out").exists()
