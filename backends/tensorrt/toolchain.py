"""TensorRT as it is installed here: ``tensorrt`` or ``tensorrt_rtx``, and what it can do.

What a version can do is read off its Python module, name by name, and never off its version number: flags came and
went between 8.5 and 11, and their numbers changed. This is the only place that imports either package.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from graphpress.errors import reraise_resource_fault

if TYPE_CHECKING:  # the building process has no need of the graph's library, which takes longest to import
    from graphpress.backend import Availability

Product = Literal["tensorrt", "tensorrt_rtx"]

PRODUCTS: Final[tuple[Product, ...]] = ("tensorrt", "tensorrt_rtx")
INSTALL: Final = "pip install 'graphpress[tensorrt]'"

_COMPUTE_CAPABILITY_MAJOR: Final = 75
_COMPUTE_CAPABILITY_MINOR: Final = 76


@dataclass(frozen=True)
class Toolchain:
    """One installed TensorRT.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        version: as the package states it.
        module: the imported package.
    """

    name: str
    version: str
    module: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, module: Any) -> Toolchain:
        """The toolchain that an imported package is."""
        return cls(module.__name__.partition(".")[0], str(getattr(module, "__version__", "unknown")), module)

    @cached_property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}"

    @cached_property
    def ahead_of_time(self) -> bool:
        """Whether it builds for GPUs that are not here."""
        return self._has("IBuilderConfig", "set_compute_capability") and hasattr(self.module, "ComputeCapability")

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities it can build for ahead of time, ascending, such as ``8.6``; empty where it cannot."""
        members = _members(getattr(self.module, "ComputeCapability", None)) if self.ahead_of_time else ()
        digits = (name[2:] for name in members if name.startswith("SM") and name[2:].isdigit())
        return tuple(f"{number // 10}.{number % 10}" for number in sorted(int(digit) for digit in digits))

    @cached_property
    def flags(self) -> frozenset[str]:
        """Builder flags that exist."""
        return frozenset(_members(getattr(self.module, "BuilderFlag", None)))

    @cached_property
    def weak(self) -> bool:
        """Whether networks may be weakly typed, their precision allowed by builder flags."""
        return "FP16" in self.flags

    @cached_property
    def strong(self) -> bool:
        """Whether networks can be strongly typed: by a flag, or because there is nothing else any more."""
        return not self.weak or "STRONGLY_TYPED" in self._creation_flags

    @cached_property
    def _creation_flags(self) -> frozenset[str]:
        return frozenset(_members(getattr(self.module, "NetworkDefinitionCreationFlag", None)))

    def _has(self, class_name: str, attribute: str) -> bool:
        return hasattr(getattr(self.module, class_name, None), attribute)

    def creation_flags(self, strong: bool) -> int:
        """Bits for ``create_network``: explicit batch where that is a choice, strongly typed where requested."""
        kinds = self.module.NetworkDefinitionCreationFlag
        wanted = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if strong else [])]
        return sum(1 << int(getattr(kinds, name)) for name in wanted if name in self._creation_flags)

    def compute_capability(self, capability: str) -> Any:
        """The member of its enumeration for ``8.6``; KeyError where it has none."""
        if capability not in self.capabilities:
            raise KeyError(capability)
        return getattr(self.module.ComputeCapability, f"SM{capability.replace('.', '')}")


def find_toolchain(product: str | None = None) -> Toolchain | None:
    """The TensorRT that is installed: the requested product, or the first of those that import; None for none.

    A package that is there but cannot load its libraries (the one on PyPI without NVIDIA's index) counts as absent.
    """
    for name in PRODUCTS if product is None else (product,):
        if (module := _import(name)) is not None:
            return Toolchain.of(module)
    return None


def availability() -> Availability:
    """Whether any TensorRT works here, as text; without a GPU only one that builds ahead of time does."""
    from graphpress.backend import Availability

    toolchains = [toolchain for toolchain in map(find_toolchain, PRODUCTS) if toolchain is not None]
    if not toolchains:
        return Availability(False, "neither tensorrt nor tensorrt_rtx is installed", INSTALL)
    if (gpu := device_capability()) is not None:
        return Availability(
            True, f"{toolchains[0].title}, builds and runs engines on a GPU of compute capability {gpu}"
        )
    ahead = next((toolchain for toolchain in toolchains if toolchain.ahead_of_time), None)
    if ahead is None:
        return Availability(False, f"{toolchains[0].title} needs a GPU, and there is none here", INSTALL)
    return Availability(True, f"{ahead.title}, builds ahead of time; no GPU here to run engines on")


def has_gpu() -> bool:
    """Whether there is a CUDA device that engines could run on."""
    return device_capability() is not None


def device_capability() -> str | None:
    """Compute capability of the first CUDA device, such as ``8.7``, read from the driver; None without one."""
    driver = _load_driver()
    if driver is None or driver.cuInit(0) != 0:
        return None
    device, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count.value:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    parts = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        number = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device) != 0:
            return None
        parts.append(str(number.value))
    return ".".join(parts)


def _load_driver() -> ctypes.CDLL | None:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _import(name: str) -> Any | None:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reraise_resource_fault(error)
        return None
    return module if hasattr(module, "Builder") else None


def _members(enumeration: Any) -> Iterable[str]:
    """Names of the members of an enumeration of the bindings, in whichever way that version lists them."""
    return tuple(getattr(enumeration, "__members__", {}))
