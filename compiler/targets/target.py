"""What the compiler knows about a device: plain data read from TOML, validated, never branched on by name.

Two keys are not fields of ``Target``: ``like`` names a target to start from, and each ``[[adjust]]`` applies, on this
machine, where the processor lacks all of the features that it lists.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.report.environment import cpu_features

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class QuantizationPolicy:
    """Which integer form is fast on a target, and where.

    Args:
        activations: dtype of quantised activations, ``uint8`` or ``int8``.
        symmetric_activations: zero-point fixed at the middle of the range.
        weights: dtype of quantised weights.
        per_channel: one scale per output channel of a weight, else one a tensor.
        reduced_range: weights use 7 bits, for processors whose u8×s8 kernels saturate in 16 bits.
        bias: dtype of the bias of an integer convolution: ``int32``, or ``float32`` where the compiler wants it so.
        anchors: operators whose integer kernel is the reason to quantise (they take weights or do the arithmetic).
        companions: operators that have an integer kernel worth using between two quantised ones.
        transparent: operators that only move or select values and read and write one shared scale.
        float_results: anchors whose integer kernel can return float, so that a last layer keeps its resolution.
    """

    activations: str = "uint8"
    symmetric_activations: bool = False
    weights: str = "int8"
    per_channel: bool = True
    reduced_range: bool = False
    bias: str = "int32"
    anchors: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    transparent: tuple[str, ...] = ()
    float_results: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A device and the runtime on it.

    Args:
        name: as on the command line.
        description: one line for ``optimize targets``.
        backend: the backend that makes the artefact.
        this_machine: whether it is the machine at hand, so that measured figures are the target's own.
        opset_max: the newest operator set that its runtime reads.
        channel_multiple: channels come in multiples of this in its fastest kernels.
        fused_operators: operators that pay when several are fused into one.
        recipe: the built-in recipe that runs by default.
        memory_bytes: memory of the device; 0 when unknown.
        peak_gmacs: peak multiply-accumulates a second, in units of 1e9, by dtype name.
        bandwidth_gbs: memory bandwidth in GB/s; 0 when unknown.
        quantization: the integer forms it runs fast.
    """

    name: str
    description: str
    backend: str = "onnxruntime"
    this_machine: bool = False
    opset_max: int = 21
    channel_multiple: int = 1
    fused_operators: tuple[str, ...] = ()
    recipe: str = "int8"
    memory_bytes: int = 0
    peak_gmacs: dict[str, float] = field(default_factory=dict)
    bandwidth_gbs: float = 0.0
    quantization: QuantizationPolicy = QuantizationPolicy()


def target_names() -> list[str]:
    """Names and aliases of all targets, sorted."""
    return sorted([*_tables(), *_aliases()])


def load_target(name: str) -> Target:
    """The target of that name or alias.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    tables = _tables()
    name = _aliases().get(name, name)
    if name not in tables:
        raise UsageError(f"unknown target {name!r}", where="--target", fix=did_you_mean(name, target_names()))
    return _read({**_whole(name), "name": name})


def aliases_of(name: str) -> list[str]:
    """Other names of a target, sorted."""
    return sorted(alias for alias, real in _aliases().items() if real == name)


def target_summaries() -> list[tuple[str, str, str]]:
    """Name, backend and description of each target, sorted by name; nothing is validated, so that this is quick."""
    tables = {name: _whole(name) for name in _tables()}
    return [(name, table.get("backend", Target.backend), table["description"]) for name, table in tables.items()]


def _read(table: dict[str, Any]) -> Target:
    from pydantic import TypeAdapter

    words = {key: value for key, value in table.items() if key not in ("aliases", "like", "adjust")}
    for adjustment in table.get("adjust", ()) if table.get("this_machine") else ():
        if not set(adjustment["lacks"]) & set(cpu_features()):
            words = _merged(words, {key: value for key, value in adjustment.items() if key != "lacks"})
    return TypeAdapter(Target).validate_python(words)


def _whole(name: str) -> dict[str, Any]:
    """The table of a target, on top of the one that it says it is ``like``."""
    table = _tables()[name]
    base = _whole(table["like"]) if "like" in table else {}
    return _merged({key: value for key, value in base.items() if key != "aliases"}, table)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``changes``, tables within it key by key."""
    both = {**base, **changes}
    return {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in both.items()
    }


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.toml"))}


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, table in _tables().items() for alias in table.get("aliases", ())}
