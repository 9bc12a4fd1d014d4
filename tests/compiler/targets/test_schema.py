"""The published schema is the one that the fields give, and takes every target file."""

import tomllib
from pathlib import Path

import jsonschema
import pytest

from graphpress.targets import schema, sources

PUBLISHED = Path(schema.__file__).with_name("target.schema.json")


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(schema.schema())


def test_the_published_file_is_the_one_that_the_fields_give():
    assert PUBLISHED.read_text("utf-8") == schema.published(), (
        "write it again: python -m graphpress.targets.schema > compiler/targets/target.schema.json"
    )


@pytest.mark.parametrize("file", sorted(sources.FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_it_takes_our_own_targets(validator, file):
    validator.validate(tomllib.loads(file.read_text("utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "description = 3",
        'description = "a"\nopset = 3',
        'description = "a"\n[quantization]\nweight = "int8"',
        'description = "a"\n[[adjust]]\nopset_max = 3',
        'description = "a"\n[options.release]\n"1" = { opset = 3 }',
    ],
)
def test_it_refuses_what_loading_refuses(validator, text, tmp_path):
    table = tomllib.loads(text)
    assert not validator.is_valid(table)
