"""The published schema is the one that the fields give, and takes every target file."""

import tomllib
from pathlib import Path

import jsonschema
import onnx.defs
import pytest

from graphpress.errors import UsageError
from graphpress.targets import load_target, schema, sources
from graphpress.targets.operators import OPERATORS
from graphpress.targets.target import NEWEST_OPSET

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
        'description = "a"\nopset_max = 0',
        'description = "a"\nkernels = []',
        'description = "a"\nkernels = ["float33"]',
        'description = "a"\nquantization.activations = "uint9"',
        'description = "a"\nquantization.compute_ops = ["Convv"]',
        'description = "a"\nsparsity.patterns = ["foo"]',
        'description = "a"\npeak_gmacs.float32 = 0',
        'description = "a"\npeak_gmacs.float33 = 1',
        'description = "a"\n[quantization]\nweight = "int8"',
        'description = "a"\n[[adjust]]\nopset_max = 3',
        'description = "a"\n[options.release]\n"1" = { opset = 3 }',
    ],
)
def test_it_refuses_what_loading_refuses(validator, text, tmp_path):
    table = tomllib.loads(text)
    assert not validator.is_valid(table)
    file = tmp_path / "board.toml"
    file.write_text(text)
    with pytest.raises(UsageError):
        load_target(str(file))


def test_every_operator_of_the_standard_is_a_word_of_target_files():
    standard = {operator.name for operator in onnx.defs.get_all_schemas() if not operator.domain}
    assert standard <= OPERATORS
    assert onnx.defs.onnx_opset_version() <= NEWEST_OPSET
