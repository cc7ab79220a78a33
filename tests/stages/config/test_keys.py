"""Sections of a recipe as keyword arguments: the keyword-only parameters and no others."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from segjax.errors import UserError
from segjax.stages.config.keys import check_numbers, options_of, recipe_options


def resize(image, size, scale=1.0, *, method, antialias=True, sides=(1, 1)):
    """A function of the code (image, size, scale), chosen in a recipe (the rest)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resizing:
    method: str
    antialias: bool = True


@pytest.mark.parametrize(
    "function, options", [(resize, {"method", "antialias", "sides"}), (Resizing, {"method", "antialias"})]
)
def test_a_recipe_gives_the_keyword_only_parameters(function, options):
    assert recipe_options(function) == options
    assert options_of({"method": "nearest"}, function, where="x") == {"method": "nearest"}
    for key in ("image", "size", "scale"):
        with pytest.raises(UserError, match=f"config key train.resize.{key} is not known"):
            options_of({"method": "nearest", key: 1}, function, where="train.resize")
    with pytest.raises(UserError, match="config key x.metod is not known. Did you mean 'method'"):
        options_of({"metod": "nearest"}, function, where="x")
    with pytest.raises(UserError, match="config key x.method is missing"):
        options_of({"antialias": False}, function, where="x")


def test_sections_become_plain_values_with_tuples():
    section = ConfigDict({"method": {"steps": (1, [2, 3])}, "sides": [4, 5]})
    found = options_of(section, resize, where="x")
    assert found == {"method": {"steps": (1, (2, 3))}, "sides": (4, 5)}
    assert type(found["method"]) is dict and hash(found["sides"])


@pytest.mark.parametrize("value", [0, 1.5, True, "3", float("nan"), float("inf")])
def test_what_is_no_number_of_its_kind_is_refused(value):
    with pytest.raises(UserError, match=r"config key train.keep=.* must be a whole number, 1 or more\."):
        check_numbers({"keep": value}, ("keep",), where="train", low=1)


def test_what_a_section_lacks_or_leaves_open_is_not_checked():
    check_numbers({"keep": None, "other": "x"}, ("keep", "gone"), where="train", low=1)
    check_numbers({"rate": 0.5}, ("rate",), where="train", low=0, below=1, whole=False)
    with pytest.raises(UserError, match="train.rate=1 must be a number, 0 or more and below 1"):
        check_numbers({"rate": 1}, ("rate",), where="train", low=0, below=1, whole=False)
