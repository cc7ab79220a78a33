"""train.extra on pseudo labels: the stage's kind decides what is needed, and held-out images are refused."""

import pytest

from segjax.data import open_source
from segjax.data.derived import PSEUDO, open_derived
from segjax.data.plans import parts_of
from segjax.data.tfds_source import TfdsSource
from segjax.errors import UserError
from segjax.stages.dataset import read_dataset
from segjax.stages.extra_data import open_extras, read_extras
from segjax.stages.stage import Context
from tests.data.shard_tools import contents, finish, shards
from tests.stages.teacher import STREET, config, label


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, street_dir):
    """A run with stages that have written hard labels, soft labels, and labels of a foreign run's training images."""
    root = tmp_path_factory.mktemp("run")
    for name, options in (("hard", {}), ("soft", dict(labels="soft", top_k=2, limit=3))):
        label(street_dir, root / name, **options)
        (root / name / "pseudo_label").rename(root / f"{name}_labels")
    made = shards(root / "propagated")
    made.open()
    made.write(0, contents(0), {})
    finish(made, 1)
    return root


def context(workdir, street_dir, **splits):
    settings = {**config(street_dir).dataset.to_dict(), "train": "train::3", **splits}
    return Context("train", workdir, workdir / "train", 0, read_dataset(settings, "dataset"))


def opened(extra, workdir, street_dir, **splits):
    here = context(workdir, street_dir, **splits)
    real = here.dataset.open("train")
    source, extras = open_extras(read_extras(extra, "train.extra"), real, here)
    return real, source, extras


def test_pseudo_labels_join_the_real_ones(workdir, street_dir):
    extra = dict(pseudo=dict(stage="hard_labels"), soft=dict(stage=str(workdir / "soft_labels" / "dataset")))
    real, source, extras = opened(extra, workdir, street_dir)
    assert parts_of(real, extras) == {"real": (0, 6), "pseudo": (6, 18), "soft": (18, 21)}
    written = open_derived(workdir / "hard_labels").open(PSEUDO)
    assert (source[7].label == written[1].label).all() and source[7].soft_ids is None
    assert source[18].soft_ids.shape == (*source[18].label.shape, 2)
    assert [e.in_epoch for e in extras] == [True, True]
    assert extras[0].source.fingerprint != extras[1].source.fingerprint


def test_the_kind_decides_which_keys_are_needed(workdir, street_dir):
    for extra, said in (
        (
            dict(stage="propagated"),
            r"train.extra.stage: propagated has propagated labels; add train.extra.mode \(jp or",
        ),
        (
            dict(pseudo=dict(stage="hard_labels", mode="jp", steps=(1,))),
            "keys train.extra.pseudo.mode and .* belong to propagated labels, but hard_labels has .* kind 'pseudo'",
        ),
        (dict(stage="nowhere"), "train.extra.stage: nowhere holds no dataset of a stage"),
    ):
        with pytest.raises(UserError, match=said):
            opened(extra, workdir, street_dir)
    for extra, said in (
        (dict(stage="p", mode="jp"), "train.extra.steps is missing"),
        (dict(stage="p", only="all"), "train.extra.only is not known"),
        (dict(split="x", labels="onlin"), "Did you mean 'online'"),
        (dict(split="x", only="unlabeled", labels="online"), "Did you mean 'unlabelled'"),
        (dict(split="x", only="unlabelled"), "only='unlabelled' takes records without label; give labels='online', or"),
        (dict(split="x", labels="online", threshold=2), "config key train.extra.threshold=2 must be a probability"),
        (dict(split="x", threshold=0.5), "train.extra.threshold belongs to labels='online'"),
    ):
        with pytest.raises(UserError, match=said):
            read_extras(extra, "train.extra")


def test_records_whose_labels_the_network_makes(workdir, street_dir):
    online = dict(labels="online", threshold=dict(road=0.9))
    extra = dict(
        rest=dict(split="train", only="unlabelled", **online), everything=dict(split="train", only="all", **online)
    )
    real, source, extras = opened(extra, workdir, street_dir)
    assert parts_of(real, extras) == {"real": (0, 6), "rest": (6, 18), "everything": (18, 36)}
    whole = open_source("synthetic_street", "train", data_dir=street_dir, builder_options=STREET)
    assert [source[i].label for i in range(6, 18)] == [None] * 12
    assert set(extras[0].source.names) == set(whole.names) - set(real.names)
    assert [source[18 + i].label is None for i in range(18)] == [name not in real.names for name in whole.names]
    only = dict(split="train", only="labelled", **online)
    assert len(opened(only, workdir, street_dir)[1]) == 12
    for wrong, said in (
        (dict(split="train[:2]", only="unlabelled", labels="online"), "all 2 records of 'train.:2.' are labelled"),
        (
            dict(split="validation", only="all", labels="online"),
            "train.extra.split: 6 images are those of the run's own",
        ),
    ):
        with pytest.raises(UserError, match=said):
            opened(wrong, workdir, street_dir)


def test_pseudo_labels_on_held_out_images_are_refused(workdir, street_dir):
    """What was a training image for the labelling run is a test image of this one."""
    said = "train.extra.pseudo.stage: 12 images are those of the run's own test split 'train', such as rest/train_0000_"
    with pytest.raises(UserError, match=said):
        opened(
            dict(pseudo=dict(stage="hard_labels")), workdir, street_dir, train="validation", validation="", test="train"
        )


def test_names_that_are_the_same_by_chance(workdir, street_dir, monkeypatch):
    """Same names, other images, as in a foreign pool of files called 0001.png."""
    read = TfdsSource.__getitem__

    def invert(self, index):
        record = read(self, index)
        if self.split == PSEUDO:
            record.image = 255 - record.image
        return record

    monkeypatch.setattr(TfdsSource, "__getitem__", invert)
    extra = dict(pseudo=dict(stage="hard_labels"))
    _, source, _ = opened(extra, workdir, street_dir, train="validation", validation="", test="train")
    assert len(source) == 6 + 12


def test_settings_of_a_part(workdir):
    (part,) = read_extras(dict(rest=dict(split="x", only="unlabelled", labels="online", threshold=0.5)), "train.extra")
    assert (part.only, part.labels, part.threshold) == ("unlabelled", "online", 0.5)
    (part,) = read_extras(dict(pseudo=dict(stage="pseudo_label")), "train.extra")
    assert (part.only, part.labels, part.threshold, part.mode) == ("labelled", "stored", 0.0, "")
