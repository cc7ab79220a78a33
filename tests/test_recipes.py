"""Recipes by name and by file, what they import, and what `segjax recipes` and `segjax train` say of them."""

import sys

import pytest
from absl import flags

from segjax import cli
from segjax.commands import train
from segjax.errors import UserError
from segjax.recipes import FOLDER, describe_recipe, find_recipe, importable, load_module, recipe_names
from segjax.stages.config.recipe_file import load_recipe

NAMES = [
    "csst",
    "csst_ablation",
    "gsvnet",
    "gsvnet_ablation",
    "ldn",
    "ldn_ablation",
    "transfer",
    "vplr",
    "vplr_ablation",
    "vplr_camvid",
    "vplr_kitti",
    "vplr_table1",
]


def test_names_are_those_of_configs(root):
    assert recipe_names() == NAMES
    assert root / "configs" == FOLDER


def test_a_name_finds_the_recipe_of_segjax_and_a_path_the_file(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "vplr.py").touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").touch()
    assert find_recipe("vplr") == f"{root}/configs/vplr.py"
    assert find_recipe("vplr:camvid,net=r50,images=C:d") == f"{root}/configs/vplr.py:camvid,net=r50,images=C:d"
    assert find_recipe("vplr.py:camvid") == "vplr.py:camvid"
    assert find_recipe("own/mine.py:") == "own/mine.py:"
    assert find_recipe("~/own/mine.py") == f"{tmp_path}/own/mine.py"


@pytest.mark.parametrize(
    "text, said",
    [
        ("vplrr", "segjax has no recipe 'vplrr'. Did you mean 'vplr'? A file is given with its path."),
        ("common", f"Choose one of: {', '.join(NAMES)}."),
        ("", "segjax has no recipe ''"),
        ("mine", "did you mean the file mine.py?"),
        ("configs/vplr.py:camvid", "there is no recipe configs/vplr.py; did you mean vplr, which comes with segjax?"),
        ("./mien.py", "there is no recipe ./mien.py; did you mean mine.py?"),
        ("elsewhere/x.py", f"there is no recipe elsewhere/x.py; segjax has the recipes {', '.join(NAMES)}"),
    ],
)
def test_an_unknown_recipe_is_one_sentence(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    with pytest.raises(UserError) as error:
        find_recipe(text)
    assert said in str(error.value)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder on the path with another package called `configs`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("MINE = 3\n")
    (tmp_path / "configs" / "helper.py").write_text("SEED = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    here = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "configs"}
    for name in here:
        del sys.modules[name]
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        del sys.modules[name]
    sys.modules.update(here)


def test_recipes_of_segjax_import_their_own_helpers(project):
    import configs

    assert configs.MINE == 3
    assert load_recipe("vplr:own").dataset.name == "segmentation_folder"
    assert sys.modules["configs"] is configs and "configs.common" not in sys.modules


def test_a_recipe_of_the_user_imports_from_its_folder_and_from_segjax(project):
    text = "from configs import MINE, common, vplr\nfrom configs.helper import SEED\n\n\ndef get_config(arg=None):\n"
    text += "    config = vplr.get_config('propagate=none,debug')\n    config.seed = MINE + SEED\n    return config\n"
    (project / "configs" / "mine.py").write_text(text)
    path = list(sys.path)
    assert load_recipe(f"{project}/configs/mine.py").seed == 10
    assert sys.path == path


def test_a_copied_recipe_works_in_any_folder(root, tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text((root / "configs" / "vplr.py").read_text())
    assert load_recipe(f"{copy}:camvid,net=fastscnn").dataset.name == "camvid"


def test_a_recipe_imports_modules_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("SEED = 5\n")
    (tmp_path / "mine.py").write_text("from beside_it import SEED\nfrom configs import common\n")
    try:
        with importable(tmp_path / "mine.py"):
            assert load_module(tmp_path / "mine.py").SEED == 5
    finally:
        sys.modules.pop("beside_it", None)


def test_wrong_overrides_are_named_after_their_source():
    with pytest.raises(UserError, match="^overrides: .*batch_size"):
        load_recipe("vplr", {"train.batch_size": "many"}, source="overrides")


@pytest.mark.parametrize("name", NAMES)
def test_options_are_what_the_recipe_takes(name):
    found = describe_recipe(name)
    assert found.presets and found.about
    with importable(found.path):
        module = load_module(found.path)
        for option, default in found.options.items():
            module.get_config(f"{option}={default}")
        with pytest.raises(ValueError, match="unknown recipe option 'colour'"):
            module.get_config("colour=red")


def test_the_command_lists_presets_options_and_files(capsys, tmp_path):
    assert cli.main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: " in out and str(FOLDER / f"{name}.py") in out for name in NAMES)
    assert "vplr:camvid,net=efficientnet" in out and "preset=synthetic" in out and "python main.py" not in out
    assert cli.main(["recipes", "vplr"]) == 0
    out = capsys.readouterr().out
    assert "segjax train --config=vplr:kitti,data=DIR --config.train.init.checkpoint=RUN" in out
    (tmp_path / "mine.py").write_text('"""Mine."""\n\n\ndef get_config(arg=None):\n    return {}\n')
    assert cli.main(["recipes", f"{tmp_path}/mine.py"]) == 0
    assert "Mine." in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, said",
    [("x = (", "cannot be read: SyntaxError"), ("x = 1", "has no function get_config"), (None, "there is no recipe")],
)
def test_the_command_names_a_file_that_is_no_recipe(text, said, tmp_path, capsys):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    assert cli.main(["recipes", f"{tmp_path}/mine.py"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["--config=vplrr"], "Did you mean 'vplr'?"),
        (["--config", "vplr:camvd"], "did you mean 'camvid'"),
        (["--config=vplr:debug", "--config.train.optmizer.lr=1"], 'Did you mean "optimizer"'),
        (["--config=vplr:debug", "--config.train.batch_size=many"], "train.batch_size=many"),
        (["--wrkdir=x"], "workdir"),
        (["--platform=cuda"], "platform"),
        (["--cpu_devices=two"], "cpu_devices"),
    ],
)
def test_mistakes_of_segjax_train_are_one_sentence(words, said, capsys):
    """All in one process: absl's own flags can be defined only once."""
    assert cli.main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("segjax: error: ") and said in error and error.count("\n") == 1


def test_segjax_train_has_every_flag_of_main(capsys):
    import main  # noqa: F401 (defines its flags)

    names = [name for name, _, _ in train.FLAGS]
    assert all(name in flags.FLAGS for name in names) and {"config", "workdir", "stage", "process_id"} < set(names)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--config=vplr", "--config.seed=1", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(f"--{name}" in out for name in names)
    assert cli.parse(["train", "--config.train.batch_size=2"]).words == ["--config.train.batch_size=2"]
