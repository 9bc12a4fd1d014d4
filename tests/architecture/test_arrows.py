"""Who may import whom, what may be imported where, and how long a file may be."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphpress import torch_bridge

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("compiler", "passes", "backends", "models")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
IDS = [str(file.relative_to(ROOT)) for file in FILES]
HEAVY = ("torch", "tvm", "tensorrt", "tensorrt_rtx", "onnx_graphsurgeon", "sklearn")
SCRIPTS = ("models/demo/train.py",)
"""Run by name with their extras installed, imported by nobody."""

TORCH_PACKAGES = ("compiler/torch_bridge/", "compiler/training/")
"""Their modules may import torch when they are loaded; nothing may load them but code that runs."""

TVM_BACKEND = "backends/tvm/"
"""Its modules may import TVM when they are loaded, but for the one that says whether there is TVM."""
TVM_DOOR = "backends/tvm/backend.py"

TORCH_BRIDGE, TENSORS = "graphpress.torch_bridge", "graphpress.torch_bridge.tensors"
BRIDGE_API = frozenset(f"{TORCH_BRIDGE}.{name}" for name in torch_bridge.__all__)
"""All that others import of the bridge; training converts tensors with it besides."""

MODELS = "graphpress.models"

LONGEST = 500


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether it is imported when the file is loaded."""
    for node, at_load in _statements(ast.parse(file.read_text(encoding="utf-8")), True):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} is a relative import"
            yield from ((f"{node.module}.{alias.name}", at_load) for alias in node.names)


def _statements(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, at_load
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _statements(child, at_load and not inside and not for_types_only)


def folder_of(module: str) -> str:
    """The folder that a module of graphpress lives in, or "" for other packages."""
    parts = module.split(".")
    if parts[0] != "graphpress":
        return ""
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS[1:] else "compiler"


def is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_arrows(file):
    folder = file.relative_to(ROOT).parts[0]
    for module, _ in imports(file):
        assert module.split(".")[0] not in FOLDERS, f"{module}: import graphpress.* instead of a folder"
        assert folder_of(module) in {"", "compiler", folder}, f"{folder} may not import {module}"


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_each_library_has_one_importer(file):
    place = file.relative_to(ROOT).as_posix()
    for module, at_load in imports(file):
        if is_of(module, "onnx_ir"):
            assert place.startswith("compiler/ir/"), "only graphpress.ir imports onnx_ir"
        if is_of(module, "onnxruntime"):
            assert place.startswith("compiler/runtime/"), "run models through graphpress.runtime: it has no telemetry"
        if is_of(module, TORCH_BRIDGE) and not place.startswith("compiler/torch_bridge/"):
            by_training = is_of(module, TENSORS) and place.startswith("compiler/training/")
            assert module in {TORCH_BRIDGE, *BRIDGE_API} or by_training, (
                f"{module} is no part of the bridge's interface"
            )
        if is_of(module, "graphpress.training") and not place.startswith("compiler/training/"):
            assert not at_load, f"{module} imports torch: import it where it is used"
        if is_of(module, "torch") and place.startswith(TORCH_PACKAGES):
            continue
        if place.startswith(TVM_BACKEND) and place != TVM_DOOR:
            continue
        if is_of(module, "graphpress.backends.tvm"):
            assert not at_load, f"{module} imports TVM: import it where it is used"
        if place not in SCRIPTS and any(is_of(module, heavy) for heavy in HEAVY):
            assert not at_load, f"{module} is imported where it is used, not when the file is loaded"


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_files_are_short_and_say_what_they_are(file):
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    assert ast.get_docstring(ast.parse(text)), "has no docstring"


@pytest.mark.parametrize("file", [file for file in FILES if file.is_relative_to(ROOT / "compiler" / "cli")], ids=str)
def test_text_leaves_through_one_door(file):
    """Which escapes what names in a model could do to a terminal;"""
    calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    beside = {ast.unparse(call) for call in calls if ast.unparse(call.func) in ("click.echo", "click.style", "print")}
    assert file.name == "text.py" or {call for call in beside if not call.startswith("print(printable(")} == set()


DEVICES = re.compile(r"\b(TensorRT|trtexec|NVIDIA|CUDA|cuDNN|Jetson|Orin|Xavier|SM\d\d+|VNNI|Raspberry|DLA)\b", re.I)


@pytest.mark.parametrize("file", [file for file in FILES if file.relative_to(ROOT).parts[0] == "passes"], ids=str)
def test_passes_know_no_device(file):
    """What a device does is data of its target, and so are the sentences about it."""
    text = file.read_text(encoding="utf-8")
    assert not [match.group() for match in DEVICES.finditer(text)]


def test_nobody_imports_a_script():
    scripts = {module_of(ROOT / script) for script in SCRIPTS}
    assert not [module for file in FILES for module, _ in imports(file) if any(is_of(module, one) for one in scripts)]


def test_no_folder_is_empty():
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(FOLDERS)


def module_of(file: Path) -> str:
    """The name under which a file is imported."""
    folder, *path = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(["graphpress", *([] if folder == "compiler" else [folder]), *path]).removesuffix(".__init__")


BLOCKED = """
import importlib, sys
for name in {heavy!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
from graphpress.manager.registry import backend_names, load_backend, load_pass, pass_names
needed = {{"surgery": {{"function": "m:f"}}, "train": {{"loop": "m:f"}}}}
passes = [load_pass(name)(**needed.get(name, {{}})) for name in pass_names()]
print(len(passes + [load_backend(name) for name in backend_names()]))
"""


def test_everything_imports_without_the_heavy_libraries():
    places = {file: file.relative_to(ROOT).as_posix() for file in FILES if file.name != "__main__.py"}
    standing_on_one = {place for place in places.values() if place.startswith(TVM_BACKEND) and place != TVM_DOOR}
    standing_on_one |= {place for place in places.values() if place.startswith(TORCH_PACKAGES)}
    files = [file for file, place in places.items() if place not in {*SCRIPTS, *standing_on_one}]
    code = BLOCKED.format(heavy=HEAVY, modules=[module_of(file) for file in files])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_one_class_per_name():
    """A public class name has one meaning in the whole project; models are builders with names of their own."""
    homes = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not is_of(module_of(file), MODELS):
                homes[node.name].append(module_of(file))
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
