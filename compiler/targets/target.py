"""What the compiler knows about a device: plain data read from TOML, validated, never branched on by name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError, did_you_mean

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
    return _read({"name": name, **tables[name]})


def aliases_of(name: str) -> list[str]:
    """Other names of a target, sorted."""
    return sorted(alias for alias, real in _aliases().items() if real == name)


def target_summaries() -> list[tuple[str, str, str]]:
    """Name, backend and description of each target, sorted by name; nothing is validated, so that this is quick."""
    default = Target.backend
    return [(name, table.get("backend", default), table.get("description", "")) for name, table in _tables().items()]


def _read(table: dict[str, Any]) -> Target:
    from pydantic import TypeAdapter

    return TypeAdapter(Target).validate_python({key: value for key, value in table.items() if key != "aliases"})


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.toml"))}


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, table in _tables().items() for alias in table.get("aliases", ())}
