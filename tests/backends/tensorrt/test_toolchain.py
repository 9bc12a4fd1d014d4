"""What is installed, read off its names."""

import subprocess
import sys
from enum import IntEnum
from types import SimpleNamespace

import pytest

from graphpress.backends.tensorrt import toolchain
from graphpress.backends.tensorrt.toolchain import Toolchain, availability, device_capability, find_toolchain, has_gpu


def module(name="tensorrt", version="9", **enumerations):
    """A package with these enumerations."""
    made = {key: IntEnum(key, words, start=0) for key, words in enumerations.items()}
    return SimpleNamespace(__name__=name, __version__=version, Builder=object, **made)


def test_reads_what_rtx_can_do(rtx):
    assert rtx.title.startswith("tensorrt_rtx 1.")
    assert rtx.ahead_of_time
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(rtx.capabilities)
    assert (rtx.strong, rtx.weak) == (True, False)
    assert "SPARSE_WEIGHTS" in rtx.flags
    assert rtx.compute_capability("8.6") == rtx.module.ComputeCapability.SM86
    with pytest.raises(KeyError):
        rtx.compute_capability("8.7")


def test_bits_of_flags_come_from_the_package():
    old = Toolchain.of(module(NetworkDefinitionCreationFlag="EXPLICIT_BATCH", BuilderFlag="FP16 INT8"))
    assert (old.weak, old.strong, old.creation_flags(strong=False)) == (True, False, 1)
    both = Toolchain.of(module(NetworkDefinitionCreationFlag="EXPLICIT_BATCH STRONGLY_TYPED", BuilderFlag="FP16 BF16"))
    assert (both.weak, both.strong) == (True, True)
    assert (both.creation_flags(strong=True), both.creation_flags(strong=False)) == (3, 1)
    new = Toolchain.of(module(NetworkDefinitionCreationFlag="STRONGLY_TYPED", BuilderFlag="TF32"))
    assert (new.weak, new.strong, new.creation_flags(strong=True)) == (False, True, 1)


def test_a_package_with_nothing_in_it_can_do_nothing():
    bare = Toolchain.of(SimpleNamespace(__name__="tensorrt"))
    assert (bare.version, bare.capabilities, bare.flags) == ("unknown", (), frozenset())
    assert not bare.ahead_of_time


def test_a_package_that_has_no_builder_counts_as_absent(tmp_path, monkeypatch):
    (tmp_path / "tensorrt_hollow.py").write_text("__version__ = '10'\n")
    (tmp_path / "tensorrt_broken.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_toolchain("tensorrt_hollow") is None
    assert find_toolchain("tensorrt_broken") is None
    assert find_toolchain("tensorrt_that_does_not_exist") is None


def test_the_first_product_that_is_there_is_found(monkeypatch):
    there = {"tensorrt_rtx": module("tensorrt_rtx")}
    monkeypatch.setattr(toolchain, "_import", there.get)
    assert find_toolchain().name == "tensorrt_rtx"
    there["tensorrt"] = module("tensorrt")
    assert find_toolchain().name == "tensorrt"


def test_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(toolchain, "_import", lambda name: None)
    here = availability()
    assert (here.works, here.install) == (False, "pip install 'graphpress[tensorrt]'")


def ahead(name):
    """A package that builds for GPUs that are not here."""
    made = module(name, ComputeCapability="NONE CURRENT SM80 SM120")
    made.IBuilderConfig = SimpleNamespace(set_compute_capability=None)
    return made


@pytest.mark.parametrize(
    ("installed", "gpu", "works", "words"),
    [
        ([ahead("tensorrt_rtx")], None, True, "tensorrt_rtx 9, builds ahead of time; no GPU"),
        ([module("tensorrt"), ahead("tensorrt_rtx")], None, True, "tensorrt_rtx 9, builds ahead of time"),
        ([module("tensorrt")], None, False, "tensorrt 9 needs a GPU"),
        ([module("tensorrt")], "8.7", True, "tensorrt 9, builds and runs engines on a GPU of compute capability 8.7"),
    ],
)
def test_says_what_it_can_do_here(monkeypatch, installed, gpu, works, words):
    monkeypatch.setattr(toolchain, "_import", {module.__name__: module for module in installed}.get)
    monkeypatch.setattr(toolchain, "device_capability", lambda: gpu)
    here = availability()
    assert (here.works, words in here.detail) == (works, True), here
    assert bool(here.install) is not works


def test_capabilities_are_in_order_of_their_numbers():
    assert Toolchain.of(ahead("tensorrt_rtx")).capabilities == ("8.0", "12.0")


class Driver:
    """The driver of a machine with one GPU of compute capability 8.7."""

    def __init__(self, count=1, code=0):
        self.count, self.code = count, code

    def cuInit(self, flags):  # noqa: N802
        return self.code

    def cuDeviceGetCount(self, pointer):  # noqa: N802
        pointer._obj.value = self.count
        return 0

    def cuDeviceGet(self, pointer, index):  # noqa: N802
        return 0

    def cuDeviceGetAttribute(self, pointer, attribute, device):  # noqa: N802
        pointer._obj.value = {75: 8, 76: 7}[attribute]
        return 0


@pytest.mark.parametrize(
    ("driver", "capability"), [(None, None), (Driver(), "8.7"), (Driver(count=0), None), (Driver(code=100), None)]
)
def test_asks_the_driver_for_the_gpu(monkeypatch, driver, capability):
    monkeypatch.setattr(toolchain, "_load_driver", lambda: driver)
    assert device_capability() == capability
    assert has_gpu() is (capability is not None)


def test_neither_package_is_imported_until_it_is_asked_for():
    code = (
        "import sys, graphpress.backends.tensorrt.build, graphpress.backends.tensorrt.toolchain;"
        "sys.exit(any(name.startswith('tensorrt') or name == 'onnx_ir' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
