"""``graphpress.passes.NAME``: every pass that is registered, lazily, with types for whoever checks them."""

import ast
import copy
import pickle
import pydoc
import subprocess
import sys
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest

import graphpress.passes
from graphpress import plugins
from graphpress.errors import UsageError
from graphpress.manager.contract import Pass
from graphpress.manager.registry import OWN_PASSES, load_pass, pass_classes
from graphpress.passes import Quantize, Surgery, Train

SOURCE = Path(graphpress.passes.__file__)


@pytest.mark.parametrize(("name", "reference"), OWN_PASSES.items())
def test_every_pass_is_a_name_of_the_package(name, reference):
    kind = getattr(graphpress.passes, reference.partition(":")[2])
    assert kind is load_pass(name)
    assert is_dataclass(kind)
    assert kind.__doc__


def test_type_checkers_see_what_the_registry_holds():
    block = next(node for node in ast.parse(SOURCE.read_text("utf-8")).body if isinstance(node, ast.If))
    imported = {
        f"{node.module}:{alias.name}" for node in block.body for alias in node.names if alias.asname == alias.name
    }
    assert imported == set(OWN_PASSES.values())


def test_completion_knows_them():
    assert {"Quantize", "Prune", "Distill"} <= set(dir(graphpress.passes))


def test_importing_the_package_loads_no_pass():
    code = "import sys, graphpress.passes; print([n for n in sys.modules if n.startswith('graphpress.passes.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_star_imports_our_own_passes():
    names = {}
    exec("from graphpress.passes import *", names)
    assert {"Quantize", "Prune", "Train"} <= set(names)
    assert set(graphpress.passes.__all__) == {reference.partition(":")[2] for reference in OWN_PASSES.values()}


def test_the_package_shows_nothing_but_passes():
    assert dir(graphpress.passes) == sorted(pass_classes())
    assert "class Quantize" in pydoc.render_doc(graphpress.passes, renderer=pydoc.plaintext)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Quantise", "did you mean 'Quantize'"),
        ("Gelu", "it is called FuseGelu now"),
        ("MergeCommon", "it is called CommonSubexpressionElimination now"),
    ],
)
def test_an_unknown_name_comes_with_a_hint(name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(graphpress.passes, name)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Quantize(calibration_methd="mse"), "did you mean 'calibration_method'"),
        (lambda: Trim(ratio=1), "it has no fields"),
        (lambda: Trim(1), "too many positional arguments"),
        (lambda: Train(), "missing a required argument: 'loop'"),
        (lambda: Surgery(), "missing a required argument: 'function'"),
        (lambda: Train("nowhere"), "names no function"),
    ],
)
def test_a_pass_that_is_made_wrongly_says_how(wrong, says):
    with pytest.raises(UsageError) as raised:
        wrong()
    assert says in str(raised.value)


def test_a_pass_has_the_signature_of_its_fields():
    assert list(signature(Quantize).parameters) == [field.name for field in fields(Quantize)]
    assert "calibration_method" in pydoc.render_doc(Quantize, renderer=pydoc.plaintext).split("\n")[3]


def test_a_pass_is_copied_and_pickled():
    train = Train("module:loop")
    assert pickle.loads(pickle.dumps(train)) == copy.deepcopy(train) == train


@pytest.mark.parametrize("name", ["Quantizer", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(graphpress.passes, name)


class Trim(Pass):
    """Another package's pass."""

    name = "trim"


@pytest.fixture
def installed(monkeypatch):
    def install(*points):
        entries = [SimpleNamespace(name=name, value=value, dist=SimpleNamespace(name="acme")) for name, value in points]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
        plugins._entries.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._entries.cache_clear()
    vars(graphpress.passes).pop("Trim", None)


def test_passes_of_other_packages_are_names_too(installed):
    installed(("trim", f"{__name__}:Trim"))
    assert graphpress.passes.Trim is sys.modules[__name__].Trim


def test_a_class_name_that_two_packages_use_is_none(installed):
    installed(("trim", "acme:Trim"), ("cut", "bolt:Trim"), ("acme_quantize", "acme:Quantize"))
    assert "Trim" not in pass_classes()
    assert pass_classes()["Quantize"].name == "quantize"
