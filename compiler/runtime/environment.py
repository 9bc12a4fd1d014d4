"""What a result depends on beside its inputs: versions of the libraries and features of the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("graphpress", "numpy", "onnx", "onnx-ir", "onnxruntime")
"""Distributions whose version can change the bytes or the speed of a result."""

CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""Flags of /proc/cpuinfo that decide which integer kernels ONNX Runtime picks (x86 first, then Arm)."""


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str | None]:
    """Version of each distribution, None where it is not installed. Nothing is imported."""
    return {name: _version(name) for name in names}


def machine() -> dict[str, str]:
    """The machine at hand as text: Python, system, processor, the features that matter, and cores."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "features": " ".join(cpu_features()),
        "cores": str(os.cpu_count() or 1),
    }


def cpu_features() -> list[str]:
    """The features of ``CPU_FEATURES`` that this processor has; empty where /proc/cpuinfo is not to be had."""
    flags = cpu_flags()
    return [name for name in CPU_FEATURES if name in flags]


def cpu_flags() -> frozenset[str]:
    """All flags of /proc/cpuinfo; none where it is not to be had."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def environment() -> dict[str, str]:
    """Library versions and the machine as one table for the report."""
    return {name: version or "not installed" for name, version in library_versions().items()} | machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), None)
