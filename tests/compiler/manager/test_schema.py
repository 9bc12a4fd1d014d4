"""The published JSON schema of recipe files."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import graphpress.manager.schema
from graphpress.manager.recipe_file import FOLDER, recipe_names
from graphpress.manager.schema import published, schema

FILE = Path(graphpress.manager.schema.__file__).with_name("recipe.schema.json")


@pytest.fixture(scope="module")
def validator():
    table = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(table)
    return jsonschema.Draft202012Validator(table)


def test_the_published_file_is_the_one_that_the_passes_give():
    assert FILE.read_text(encoding="utf-8") == published(), (
        "write it again: python -m graphpress.manager.schema > compiler/manager/recipe.schema.json"
    )


@pytest.mark.parametrize("name", recipe_names())
def test_built_in_recipes_are_valid(validator, name):
    validator.validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def test_the_example_is_valid(validator):
    validator.validate(
        {
            "description": "prune, win back, quantize",
            "passes": [
                "cleanup",
                {"quantize": {"percentile": 99.9}},
                "my_package.passes:Trim",
                {"my_package.passes:Trim": {"x": 1}},
            ],
            "hooks": {"after_pass": "my_package.log:after_pass"},
        }
    )


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"passes": "cleanup"},
        {"passes": [], "stages": []},
        {"passes": [{"quantis": {}}]},
        {"passes": [{"quantize": {"percentil": 1}}]},
        {"passes": [{"quantize": {"percentile": "much"}}]},
        {"passes": [{"quantize": {"calibration_method": "magic"}}]},
        {"passes": [{"quantize": {}, "dce": {}}]},
        {"passes": [], "hooks": {"after": "x:y"}},
    ],
)
def test_wrong_recipes_are_not(validator, recipe):
    assert not validator.is_valid(recipe)


def test_it_covers_every_pass_that_is_installed():
    assert json.loads(published())["properties"]["passes"] == schema()["properties"]["passes"]
