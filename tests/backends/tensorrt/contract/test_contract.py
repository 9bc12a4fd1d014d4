"""What we use of TensorRT's Python API exists in every version that we expected to work with, or is asked for first.

The code is read, not run: every attribute of the module, of a network, builder, configuration, parser or layer, and
every member of an enumeration by its name.
"""

import ast
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[4] / "backends" / "tensorrt"
FILES = sorted(PACKAGE.rglob("*.py"))
WEAK = ("10.3", "10.9", "10.13")
"""Versions whose networks may be weakly typed: precision flags and calibrators."""

SINCE_10_9 = ("10.9", "10.13", "11.4", "rtx")
SINCE_11 = ("11.4", "rtx")
ALL = ("10.3", *SINCE_10_9)

AVAILABLE = {
    ("BuilderFlag", "FP16"): WEAK,
    ("BuilderFlag", "INT8"): WEAK,
    ("BuilderFlag", "SPARSE_WEIGHTS"): ALL,
    ("Builder", "build_serialized_network"): ALL,
    ("ComputeCapability", ""): ("rtx",),
    ("CumulativeOperation", ""): SINCE_10_9,
    ("DataType", "BF16"): ALL,
    ("DataType", "FP4"): SINCE_10_9,
    ("DataType", "FP8"): ALL,
    ("DataType", "INT4"): ALL,
    ("IBuilderConfig", "DLA_core"): ALL,
    ("IBuilderConfig", "int8_calibrator"): WEAK,
    ("IBuilderConfig", "num_compute_capabilities"): ("rtx",),
    ("IBuilderConfig", "set_compute_capability"): ("rtx",),
    ("IBuilderConfig", "set_memory_pool_limit"): ALL,
    ("IDequantizeLayer", "block_shape"): SINCE_11,
    ("ILayer", "metadata"): ALL,
    ("ILayer", "precision"): WEAK,
    ("IInt8EntropyCalibrator2", ""): WEAK,
    ("INetworkDefinition", "add_attention"): SINCE_11,
    ("INetworkDefinition", "add_cumulative"): SINCE_10_9,
    ("INetworkDefinition", "add_normalization"): ALL,
    ("INetworkDefinition", "add_normalization_v2"): SINCE_11,
    ("ITensor", "dynamic_range"): WEAK,
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"): WEAK,
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"): ALL,
    ("OnnxParser", "supports_model"): WEAK,
    ("OnnxParser", "supports_model_v2"): ALL,
    ("OnnxParser", "supports_operator"): ALL,
    ("ProfilingVerbosity", "DETAILED"): ALL,
}
"""Classes with their attributes, and the versions that have them: what feature detection rests on."""

REFUSED_WITHOUT = {
    "add_attention": "written out in matrix products and a softmax before 11",
    "add_attention_v2": "written out in matrix products and a softmax before 11",
    "add_cumulative": "refused before 10.9, by name",
    "add_normalization_v2": "add_normalization before 11",
}
"""Kinds of layers that some version lacks, and what becomes of the operator there."""

AHEAD_OF_TIME = {"ComputeCapability", "set_compute_capability"}
ATTENTION = {"add_attention", "add_attention_v2"}
ONLY_WITH = {
    "AttentionNormalizationOp": ATTENTION,
    "AttentionNormalizationOp.SOFTMAX": ATTENTION,
    "CausalMaskKind": ATTENTION,
    "CausalMaskKind.LOWER_RIGHT": ATTENTION,
    "ComputeCapability": AHEAD_OF_TIME,
    "CumulativeOperation.SUM": {"CumulativeOperation"},
    "IBuilderConfig.int8_calibrator": {"IInt8EntropyCalibrator2"},
    "IBuilderConfig.num_compute_capabilities": AHEAD_OF_TIME,
    "IBuilderConfig.set_compute_capability": AHEAD_OF_TIME,
    "ILayer.decomposable": ATTENTION,
}
"""What comes in one piece with something else: asking for one of these is enough."""

# -- the bindings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "name"), AVAILABLE, ids=lambda word: word or "class")
def test_what_each_version_has(version, offers, owner, name):
    assert offers(owner, name) == (version in AVAILABLE[owner, name])


def test_the_adapter_sees_what_is_there(version, surface):
    found = surface["features"]
    weak, rtx = version in WEAK, version == "rtx"
    assert found["weak"] == weak
    assert found["strong"]
    assert found["ahead_of_time"] == rtx
    assert bool(found["capabilities"]) == rtx
    assert ("FP16" in found["flags"]) == weak


def test_creation_flags_are_read_never_known(version, surface):
    """The bit of STRONGLY_TYPED moved when EXPLICIT_BATCH went."""
    kinds = surface["classes"]["NetworkDefinitionCreationFlag"]["members"]
    explicit = 1 << kinds["EXPLICIT_BATCH"] if version in WEAK else 0
    assert surface["features"]["bits"] == {"strong": explicit | 1 << kinds["STRONGLY_TYPED"], "weak": explicit}
    assert kinds["STRONGLY_TYPED"] == (1 if version in WEAK else 0)


# -- our code -------------------------------------------------------------------------------------------------


class Use(NamedTuple):
    """One mention of TensorRT's API in our code.

    Args:
        place: file and line.
        owner: class of TensorRT, ``ILayer`` for any layer, or "" for the module.
        name: attribute or member.
        keywords: names of arguments that a call gives.
        asked: whether the code asks for it first: ``hasattr`` in the same file, or a default.
    """

    place: str
    owner: str
    name: str
    keywords: tuple[str, ...] = ()
    asked: bool = False

    @property
    def word(self) -> str:
        """As NVIDIA's documentation writes it, below the module."""
        return f"{self.owner}.{self.name}" if self.owner else self.name


OBJECTS = {
    "builder": "Builder", "conditional": "IIfConditional", "config": "IBuilderConfig", "engine": "ICudaEngine",
    "inspector": "EngineInspector", "layer": "ILayer", "loop": "ILoop", "network": "INetworkDefinition",
    "parser": "OnnxParser", "profile": "IOptimizationProfile", "runtime": "Runtime",
}  # fmt: skip
"""What we call objects of TensorRT, and their classes."""

WORDS = {
    "activation": "ActivationType", "calculate": "ElementWiseOperation", "elementwise": "ElementWiseOperation",
    "reduce": "ReduceOperation", "unary": "UnaryOperation",
}  # fmt: skip
"""Methods of ours that take the name of a member."""

LAYERS = ("IAttention", "ILayer")
"""What an ``add_`` method returns, with everything that derives from it."""

NOT_TENSORRT = {*dir(ArgumentParser), *dir(dict)}
"""What objects of those names have that are not TensorRT's."""


@cache
def uses() -> tuple[Use, ...]:
    """Every use; an attribute of an object of ours is none."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {one.name for node in classes for one in node.body if isinstance(one, ast.FunctionDef)}
    found = {use for file, tree in trees.items() for use in uses_in(file, tree)}
    return tuple(sorted(use for use in found if use.owner not in OBJECTS.values() or use.name not in own))


def uses_in(file: Path, tree: ast.Module) -> Iterator[Use]:
    """Every use in a file; nothing in one that never holds TensorRT's module."""
    if not any(is_module(node) for node in ast.walk(tree)):
        return
    tables = {
        node.targets[0].id: [one.value for one in node.value.values if isinstance(one, ast.Constant)]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict)
    }
    asked = {name for node in ast.walk(tree) for name in asked_in(node)}
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        place = f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
        for owner, name in (*mentioned(node), *by_word(node, tables)):
            call = node if isinstance(node, ast.Call) else calls.get(id(node))
            keywords = tuple(one.arg for one in call.keywords if one.arg) if call else ()
            use = Use(place, owner, name, keywords)
            yield use._replace(asked=bool(asked & {name, *ONLY_WITH.get(use.word, ())}) or has_default(node))


def has_default(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 3


def is_module(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (isinstance(node, ast.Attribute) and node.attr == "trt")


def mentioned(node: ast.AST) -> Iterator[tuple[str, str]]:
    """``trt.X``, ``trt.X.Y`` and ``config.x``."""
    if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
        return
    base = node.value
    if is_module(base):
        yield "", node.attr
    elif isinstance(base, ast.Attribute) and is_module(base.value):
        yield base.attr, node.attr
    else:
        word = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
        if word in OBJECTS and node.attr not in NOT_TENSORRT:
            yield OBJECTS[word], node.attr


def by_word(node: ast.AST, tables: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """``call.add("kind")``, ``call.unary("EXP")``, ``getattr(trt.X, "Y")`` and ``getattr(trt.X, TABLE[...])``."""
    if not isinstance(node, ast.Call) or not node.args:
        return
    first = node.args[0]
    if isinstance(node.func, ast.Attribute) and isinstance(first, ast.Constant) and isinstance(first.value, str):
        if node.func.attr in ("add", "out"):
            yield "INetworkDefinition", f"add_{first.value}"
        elif node.func.attr in WORDS:
            yield WORDS[node.func.attr], first.value
    elif isinstance(node.func, ast.Name) and node.func.id == "getattr" and isinstance(first, ast.Attribute):
        second = node.args[1]
        if is_module(first.value) and isinstance(second, ast.Constant):
            yield first.attr, second.value
        elif is_module(first.value) and isinstance(second, ast.Subscript) and isinstance(second.value, ast.Name):
            yield from ((first.attr, word) for word in tables.get(second.value.id, ()))


def asked_in(node: ast.AST) -> Iterator[str]:
    """Names that the code asks for before it uses them."""
    if not isinstance(node, ast.Call):
        return
    asks = isinstance(node.func, ast.Name) and (node.func.id == "hasattr" or has_default(node))
    if asks and isinstance(node.args[1], ast.Constant):
        yield node.args[1].value
    elif isinstance(node.func, ast.Attribute) and node.func.attr == "compute_capability":
        yield "ComputeCapability"  # of the adapter, which knows those that there are


def has(surface: dict, use: Use) -> bool:
    classes = surface["classes"]
    if not use.owner:
        return use.name in classes or use.name in surface["functions"]
    if use.owner == "ILayer":
        owners = [kind for name, kind in classes.items() if name in LAYERS or "ILayer" in kind["bases"]]
    else:
        owners = [classes[use.owner]] if use.owner in classes else []
    return any(use.name in owner["attributes"] or use.name in owner["members"] for owner in owners)


def test_the_reader_finds_uses():
    assert len(uses()) > 100
    assert {use.owner for use in uses()} >= {
        "",
        "INetworkDefinition",
        "IBuilderConfig",
        "ElementWiseOperation",
        "ILayer",
    }


def test_what_we_use_exists_or_is_asked_for_first(surface):
    missing = [use for use in uses() if not has(surface, use) and not use.asked and use.name not in REFUSED_WITHOUT]
    assert [f"{use.place}: {use.word}" for use in missing] == []


def test_arguments_that_we_name_have_these_names(surface):
    wrong = []
    for use in uses():
        said = surface["classes"].get(use.owner, {"attributes": {}})["attributes"].get(use.name, "")
        wrong += [f"{use.place}: {use.name}({word}=)" for word in use.keywords if said and f"{word}:" not in said]
    assert wrong == []


def test_layers_that_a_version_lacks_are_known(offers):
    """A new kind of layer that is newer than 10.3 needs a word on what becomes of it there."""
    kinds = {use.name for use in uses() if use.owner == "INetworkDefinition" and use.name.startswith("add_")}
    assert len(kinds) > 15
    assert {kind for kind in kinds if not offers("INetworkDefinition", kind)} <= set(REFUSED_WITHOUT)
