"""What a .safetensors file says about its network: every wrong part is one sentence, as --checkpoint too."""

import itertools
import json

import numpy as np
import pytest
import safetensors.numpy

from segjax.errors import UserError
from segjax.inference.network import open_labelling
from segjax.weights.info import check_info
from segjax.weights.runs import load_for_inference, read_meta

SPEC = {"name": "fastscnn", "num_classes": 3, "options": {}}
KEYFRAME = {"spec": SPEC, "scale": 0.75}


def entry(**changes):
    return {"model": {**SPEC, **changes}, "step": 3}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "that is no JSON"),
        ("{", "that is no JSON"),
        ("[" * 100_000, "that is no JSON"),
        ("[]", r"that is \[\], not a JSON object"),
        ("3", "that is 3, not"),
        ("null", "that is None, not"),
        ("Infinity", "that is inf, not"),
        ("{}", "model=None, which does not name a network"),
        ('{"model": []}', r"model=\[\], which does not"),
        ('{"model": {}}', "model.name=None"),
        (json.dumps(entry(name=[1])), r"model.name=\[1\]"),
        (json.dumps({"model": {"name": "fastscnn"}}), "model.num_classes=None"),
        (json.dumps(entry(options=[1])), r"model.options=\[1\]"),
        (json.dumps(entry(num_classes="3")), "model.num_classes='3'"),
        (json.dumps(entry(num_classes=10**12)), "model.num_classes=1000000000000"),
        (json.dumps(entry(num_classes=-1)), "wrong 'model': num_classes=-1"),
        (json.dumps(entry(name="fastscn")), "wrong 'model': model 'fastscn' does not exist. Did you mean 'fastscnn'"),
        (json.dumps(entry(options={"auxx": 1})), "has no option 'auxx'"),
        (json.dumps(entry(options={"dtype": {"a": 1}})), r"model.options.dtype=\{'a': 1\}"),
        ('{"step": 3, "model": {"name": "fastscnn", "num_classes": 3, "options": {"bn_eps": 1e999}}}', "bn_eps=inf"),
        (json.dumps(entry(options={"dtype": "f" * 1000})), r"options.dtype='f+'\.\.\.,"),
        (json.dumps(entry(keyframe=3)), "model.keyframe=3, which lacks"),
        (json.dumps(entry(keyframe={"spec": [], "scale": 1})), r"model.keyframe.spec=\[\]"),
        (json.dumps(entry(keyframe={"spec": SPEC})), "model.keyframe="),
        (json.dumps({"model": SPEC}), "step=None, which is not a whole number"),
        (json.dumps({**entry(), "step": "3"}), "step='3'"),
        (json.dumps({**entry(), "normalisation": []}), r"normalisation=\[\], which is not a name"),
        (json.dumps({**entry(), "label_map": [1]}), r"label_map=\[1\], which is not a label map"),
        (json.dumps({**entry(), "dataset": 1}), "dataset=1, which"),
    ],
    ids=itertools.count(),
)
def test_a_wrong_entry_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path, metadata={"segjax": text})
    for way in (read_meta, load_for_inference, open_labelling):
        with pytest.raises(UserError, match=message) as error:
            way(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 800


def test_an_honest_entry_is_returned_as_it_is():
    info = {**entry(options={"aux": True, "bn_eps": 1e-3}), "normalisation": "imagenet", "other": [1]}
    assert check_info(info, "x") == info
    assert check_info({**info, "label_map": None, "dataset": {"a": 1}}, "x")["dataset"] == {"a": 1}


def test_a_keyframe_network_is_checked_as_well():
    spec = {"name": "gsvnet", "num_classes": 3, "options": {}, "keyframe": KEYFRAME}
    assert check_info({"model": spec, "step": 1}, "x")["model"] == spec
    wrong = {**spec, "keyframe": {**KEYFRAME, "spec": {**SPEC, "name": "fastscn"}}}
    with pytest.raises(UserError, match="Did you mean 'fastscnn'"):
        check_info({"model": wrong, "step": 1}, "x")
