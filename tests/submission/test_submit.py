"""`segjax submit` from end to end: the archive's score is the official program's; a run that is stopped goes on."""

import functools
import json
import zipfile
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from segjax import cli, data, evaluation, metrics
from segjax.data import LabelMap, build_dataset
from segjax.errors import UserError
from segjax.inference.labels import labeller
from segjax.media.writers import PngWriter
from segjax.stages import evaluate as stage
from segjax.stages.dataset import read_dataset
from segjax.submission import submit
from tests.data_builders import mini_trees
from tests.metrics.test_official_scores import assert_equal
from tests.official import official_cityscapes


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory):
    """(tree, flags that name the data set)."""
    tree, data_dir = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("data")
    mini_trees.cityscapes(tree)
    options = {"source_dir": str(tree), "partial": True, "instances": True}
    build_dataset("cityscapes", data_dir=data_dir, builder_options=options)
    flags = ["--dataset=cityscapes", f"--data-dir={data_dir}", "--option", f"source_dir={tree}", "partial=True"]
    return tree, [*flags, "instances=True"], options, data_dir


@pytest.fixture
def network(monkeypatch):
    """Stands where a run would be: the class is written in the red channel of the image."""
    seen = []

    def logits(variables, x):
        scores = -jnp.abs(x[..., :1] % 19 - jnp.arange(19.0) * variables["one"])
        # of many classes the others are always the most probable ones
        return jnp.pad(scores, ((0, 0),) * 3 + ((0, 20),), constant_values=1) if seen == ["rob_kitti"] else scores

    def load(checkpoint):
        if checkpoint != "run":
            raise UserError(f"there is no checkpoint in {checkpoint}")
        variables = {"one": jnp.ones(()) * (1.5 if seen == ["trained on"] else 1)}

        def label(**views):
            return labeller(logits, variables, normalise=lambda x: x.astype(jnp.float32), **views)

        label_map = LabelMap.open(seen[0] if seen in (["camvid"], ["rob_kitti"]) else "cityscapes")
        return SimpleNamespace(variables=variables, label_map=label_map, labeller=label)

    monkeypatch.setattr(submit, "open_network", load)
    monkeypatch.setenv("SEGJAX_CACHE_DIR", "")
    return seen


def test_the_score_of_the_archive_is_the_official_one(cityscapes, network, tmp_path, capsys):
    tree, flags, *_ = cityscapes
    words = ["submit", *flags, "--split=validation", f"--report={tmp_path}/report.json"]
    assert cli.main([*words, "--checkpoint=run", f"--output={tmp_path}/a.zip"]) == 0
    printed = capsys.readouterr().out
    assert "mean of categories" in printed and "2 predictions as the server" in printed and "upload: https" in printed
    assert "not for the server yet: validation has 500 images and these are 2" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 2 and len(report["sha256"]) == 64 and report["scores"]["iiou"]["road"] is None
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    truths = sorted((tree / "gtFine/val").glob("*/*_labelIds.png"))
    predictions = [next((tmp_path / "unpacked").glob(t.name.split("_gtFine")[0] + "*")) for t in truths]
    numbers = lambda x: np.array(list(x.values()), float) if isinstance(x, dict) else x  # noqa: E731
    assert_equal(
        {key: numbers(value) for key, value in report["scores"].items()}, official_cityscapes(predictions, truths)
    )
    assert cli.main([*words, f"--input={tmp_path}/a.zip"]) == 0  # the same again, from the archive alone
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert cli.main([*words, f"--input={tmp_path}/unpacked", f"--output={tmp_path}/b.zip"]) == 0
    assert (tmp_path / "b.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_a_test_split_is_checked_and_not_scored(cityscapes, network, tmp_path, capsys):
    words = ["submit", *cityscapes[1], "--checkpoint=run", f"--output={tmp_path}/test.tgz", "--scales=0.5,1", "--flip"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "IoU" not in printed and "test has 1525 images and these are 1" in printed


def test_a_run_that_is_stopped_goes_on(cityscapes, network, tmp_path, monkeypatch, capsys):
    """Stopped after one image, with the next one written by half: neither an archive nor lost work."""
    output = tmp_path / "out/train.zip"
    words = ["submit", *cityscapes[1], "--split=train", "--checkpoint=run", f"--output={output}", "--batch=1"]
    write, written = PngWriter.write, []

    def stop_at_the_second(self, path, picture):
        if written:
            path.parent.mkdir(parents=True, exist_ok=True)  # the writer's thread may not have made it yet
            path.write_bytes(b"\x89PNG\r\n\x1a\n half of it")
            raise KeyboardInterrupt
        written.append(path.name)
        write(self, path, picture)

    monkeypatch.setattr(PngWriter, "write", stop_at_the_second)
    assert cli.main(words) == 130
    assert [path.name for path in output.parent.iterdir()] == ["train.zip.parts"]
    assert len(list((output.parent / "train.zip.parts/ids").iterdir())) == 2

    monkeypatch.setattr(PngWriter, "write", lambda self, path, p: (written.append(path.name), write(self, path, p))[1])
    assert cli.main([*words, "--flip"]) == 2
    assert "was begun with other settings (settings.flip: nothing -> True)" in capsys.readouterr().err
    network.append("trained on")
    assert cli.main(words) == 2  # two networks' predictions are not mixed
    assert "was begun with other settings (settings.weights: " in capsys.readouterr().err
    network.clear()
    assert cli.main(words) == 0
    assert len(written) == len(set(written)) == 3  # each image once
    assert [path.name for path in output.parent.iterdir()] == ["train.zip"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--split=validation"], "give one of these"),
        (["--checkpoint=run"], "--output is missing"),
        (["--checkpoint=run", "--output=a.rar"], "must end with .zip"),
        (["--checkpoint=no", "--output=a.zip"], "no checkpoint in no"),
        (["--checkpoint=run", "--output=a.zip", "--protocol=citscapes_multi"], "Did you mean 'cityscapes_multi'"),
        (["--input=nowhere"], "nowhere does not exist"),
        (["--input=x", "--flip"], "--input is predicted already"),
        (["--checkpoint=run", "--output=exists.zip"], "exists already; check it with --input=exists.zip"),
        (["--checkpoint=run", "--output=a.zip", "--competition=comp5"], "is for voc2012"),
    ],
)
def test_one_sentence(cityscapes, network, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists.zip").write_bytes(b"")
    assert cli.main(["submit", *cityscapes[1], *words]) == 2
    assert said in capsys.readouterr().err


def test_the_name_of_the_archive_is_checked_before_the_data_set_is_built(tmp_path, capsys):
    words = ["submit", "--dataset=kitti", "--split=train", "--option", "source_dir=/nowhere", f"--data-dir={tmp_path}"]
    for start in ("--input=x", "--checkpoint=x"):
        assert cli.main([*words, start, "--output=a.rar"]) == 2
        assert "must end with .zip" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_of_other_classes_is_refused(cityscapes, network, tmp_path, capsys):
    network.append("camvid")
    assert cli.main(["submit", *cityscapes[1], "--checkpoint=run", f"--output={tmp_path}/a.zip"]) == 2
    said = capsys.readouterr().err
    assert "knows the classes sky, building, pole, ... (11) and not 'sidewalk', but cityscapes has road" in said


def test_a_network_of_several_taxonomies_chooses_among_the_classes_of_the_server(cityscapes, network, tmp_path, caplog):
    words = ["submit", *cityscapes[1], "--split=validation", "--checkpoint=run"]
    assert cli.main([*words, f"--output={tmp_path}/own.zip"]) == 0
    network.append("rob_kitti")  # 39 classes
    assert cli.main([*words, f"--output={tmp_path}/common.zip"]) == 0
    assert "among the 19 classes of cityscapes, of its 39" in caplog.text
    assert (tmp_path / "own.zip").read_bytes() == (tmp_path / "common.zip").read_bytes()


def test_the_stage_evaluate_scores_by_the_rule_too(cityscapes):
    """benchmark and boundary of the stage against the scores of an archive of the same predictions."""
    _, _, options, data_dir = cityscapes
    dataset = read_dataset({"name": "cityscapes", "options": options, "data_dir": str(data_dir)}, "dataset")
    source = dataset.open("validation")
    settings = {"checkpoint": "run", "split": "validation", "benchmark": "cityscapes", "boundary": True}
    extra = stage.extra_scores(stage.read(settings, "evaluate"), source, dataset)
    evaluation.evaluate(
        lambda images: images[..., 0] % 19, data.eval_batches(source, batch_size=2), num_classes=19, observe=extra
    )
    report = extra.report()
    maps = dataset.open("validation", fields=("instances",))
    rule = metrics.find_rule("cityscapes")
    parts = [
        metrics.tally(rule, r.image[..., 0] % 19, r.label, instances=r.instances, train_id_of=maps.label_map.table.ids)
        for r in maps
    ]
    want = metrics.official_scores(rule, functools.reduce(lambda a, b: a + b, parts))
    assert report["cityscapes"]["miou"] == pytest.approx(want["miou"], abs=1e-8)
    assert report["cityscapes"]["mean_iiou"] == pytest.approx(want["mean_iiou"], abs=1e-8)
    assert set(report["cityscapes"]["category_iou"]) >= {"flat", "vehicle"}
    assert 0 <= report["boundary_f"]["mean"] <= 1 and list(report["trimap_miou"]) == ["1", "3", "5", "10", "20"]
    assert any("iiou" in line for line in evaluation.describe_scores(report["cityscapes"]))
    plain = stage.read({"checkpoint": "run", "split": "validation"}, "evaluate")
    assert stage.extra_scores(plain, source, dataset) is None
    for wrong, said in (("voc2012", "scores 21 classes but the data set has 19"), ("citscapes", "Did you mean")):
        with pytest.raises(UserError, match=said):
            stage.extra_scores(stage.read({**settings, "benchmark": wrong}, "evaluate"), source, dataset)
