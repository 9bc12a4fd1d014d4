"""Running models, graphs in ONNX Runtime, the reference, and libraries of the TVM backend's; paired measurement.

Only this package imports onnxruntime. Its telemetry is turned off before that, for this process and its children: from
the import on it writes a device id and the paths and names of models into the user's cache and temporary folders, and
``disable_telemetry_events()`` comes too late.

Nothing is imported until one of these names is used: a compiled model needs neither ONNX nor ONNX Runtime.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from graphpress.runtime.compiled import CompiledModel, load
    from graphpress.runtime.float_biases import write_biases_apart
    from graphpress.runtime.float_concats import has_half_concats, widen_concats
    from graphpress.runtime.float_layers import keep_float_layers
    from graphpress.runtime.measure import PairedTiming, call_times, compare_alone, compare_latency, undisturbed_latency
    from graphpress.runtime.pairs import compare_sessions, over_pairs
    from graphpress.runtime.runner import Infer, InProcess, Runner
    from graphpress.runtime.session import KEPT_BYTES, InputSpec, Renews, Session, StandsBy, is_large, renew, stand_by

__all__ = [
    "KEPT_BYTES",
    "CompiledModel",
    "InProcess",
    "Infer",
    "InputSpec",
    "PairedTiming",
    "Renews",
    "Runner",
    "Session",
    "StandsBy",
    "call_times",
    "compare_alone",
    "compare_latency",
    "compare_sessions",
    "has_half_concats",
    "is_large",
    "keep_float_layers",
    "load",
    "over_pairs",
    "renew",
    "stand_by",
    "undisturbed_latency",
    "widen_concats",
    "write_biases_apart",
]

_HOME = {
    name: module
    for module, names in (
        ("compiled", ("CompiledModel", "load")),
        ("float_biases", ("write_biases_apart",)),
        ("float_concats", ("has_half_concats", "widen_concats")),
        ("float_layers", ("keep_float_layers",)),
        ("measure", ("PairedTiming", "call_times", "compare_alone", "compare_latency", "undisturbed_latency")),
        ("pairs", ("compare_sessions", "over_pairs")),
        ("runner", ("Infer", "InProcess", "Runner")),
        ("session", ("KEPT_BYTES", "InputSpec", "Renews", "Session", "StandsBy", "is_large", "renew", "stand_by")),
    )
    for name in names
}
"""The module of each public name, below this package."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
