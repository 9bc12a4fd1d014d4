"""Packages stand in layers, and no module is part of a circle; imports for types only count like all others."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "compiler": "graphpress",
    "passes": "graphpress.passes",
    "backends": "graphpress.backends",
    "models": "graphpress.models",
}

LAYERS = (
    ("printable", "scratch"),
    ("errors",),
    ("cache", "child_process", "memory", "plain", "plugins", "progress", "statistics", "validation"),
    ("data", "deadline", "ir"),
    ("forked", "graphsurgeon", "ops", "runtime"),
    ("targets",),
    ("analysis", "backend", "evaluation", "lint"),
    ("allocation", "coupling", "observation", "torch_bridge"),
    ("training",),
    ("manager",),
    ("report",),
    ("driver",),
    ("cli",),
    ("__main__",),
)
"""Packages and modules of ``compiler/``, from the bottom up: each may import from the layers below its own."""

LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}

CLOSED = {"passes": ("report", "driver", "cli"), "backends": ("report", "driver", "cli")}
"""What passes and backends, which stand on the compiler, may not import of it all the same."""


@cache
def modules() -> Mapping[str, Path]:
    """The file of each module of graphpress."""
    files = {}
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            files[".".join([package, *parts]).removesuffix(".__init__")] = file
    return files


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """The modules of graphpress that each module imports anywhere, for types too."""
    return {module: frozenset(_imported(file)) - {module} for module, file in modules().items()}


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in modules():  # a name in a module is of that module
                name = name.rpartition(".")[0]
            if name:
                yield name


def package_of(module: str) -> str:
    """The package or module right below ``graphpress``; empty for graphpress itself."""
    return module.split(".")[1] if "." in module else ""


def compiler_modules() -> list[str]:
    return [module for module, file in modules().items() if file.is_relative_to(ROOT / "compiler")]


def test_every_package_has_its_layer():
    assert {package_of(module) for module in compiler_modules()} - {""} == set(LAYER_OF)


@pytest.mark.parametrize("module", [module for module in compiler_modules() if package_of(module)])
def test_no_arrow_points_up(module):
    package = package_of(module)
    upward = [
        other
        for other in sorted(imports()[module])
        if package_of(other) != package and not LAYER_OF.get(package_of(other), len(LAYERS)) < LAYER_OF[package]
    ]
    assert not upward, f"{package} stands in layer {LAYER_OF[package]}; these do not stand below it"


@pytest.mark.parametrize("folder", CLOSED)
def test_what_stands_on_the_compiler_uses_what_is_open(folder):
    beside = {
        (module, other)
        for module, file in modules().items()
        if file.is_relative_to(ROOT / folder)
        for other in imports()[module]
        if package_of(other) in CLOSED[folder]
    }
    assert not beside


def test_no_module_is_part_of_a_circle():
    assert not circles(imports())


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def circles(edges: Mapping[str, frozenset[str] | set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Kosaraju's two walks)."""
    order: list[str] = []
    seen: set[str] = set()
    for node in edges:
        order += _finished(node, edges, seen)
    reverse: dict[str, set[str]] = {node: set() for node in edges}
    for node, others in edges.items():
        for other in others:
            reverse.setdefault(other, set()).add(node)
    seen = set()
    components = [_finished(node, reverse, seen) for node in reversed(order)]
    return sorted(sorted(component) for component in components if len(component) > 1)


def _finished(start: str, edges: Mapping[str, frozenset[str] | set[str]], seen: set[str]) -> list[str]:
    """Nodes that a walk from ``start`` reaches and that were not seen before, in the order in which it leaves them."""
    if start in seen:
        return []
    seen.add(start)
    left: list[str] = []
    stack = [(start, iter(sorted(edges.get(start, ()))))]
    while stack:
        node, others = stack[-1]
        following = next((other for other in others if other not in seen), None)
        if following is None:
            left.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(sorted(edges.get(following, ())))))
    return left
