"""What the compiler knows about a device: plain data read from TOML, validated, never branched on by name.

Four keys are not fields of ``Target``: ``like`` names a target to start from, whose keys hold where nothing else is
said, but for its aliases and its peak rates; ``aliases`` are other names; each ``[[adjust]]`` applies, on this machine,
where the processor lacks all of the features that it lists; and ``[options.NAME]`` is something that the user may
choose in braces, ``jetson{jetpack=5.1}``: ``default`` names the one that holds when none is given, and every other key
is a choice with the table that it changes. A choice's ``needs`` lists choices of other options
(``{jetpack = ["5.1", "6.0"]}``) without which it makes no sense. An option replaces that of the same name of the target
it is ``like``; an empty one takes it away.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphpress.errors import UsageError, did_you_mean
from graphpress.runtime.environment import cpu_features

FOLDER = Path(__file__).parent

OF_ONE_DEVICE = frozenset({"aliases", "options", "peak_gmacs"})
"""Keys that are not mixed, key by key, with those of the target that another is ``like``."""


@dataclass(frozen=True)
class QuantizationPolicy:
    """Which integer form is fast on a target, and where.

    Args:
        activations: dtype of quantized activations, ``uint8`` or ``int8``.
        symmetric_activations: zero-point fixed at the middle of the range.
        weights: dtype of quantized weights.
        per_channel: one scale per output channel of a weight, else one a tensor.
        reduced_range: weights use 7 bits, for processors whose u8×s8 kernels saturate in 16 bits.
        bias: dtype of the bias of an integer convolution: ``int32``, or ``float32`` where the compiler wants it so.
        compute_ops: operators whose integer kernel is the reason to quantize (weights, arithmetic).
        quantizable_neighbors: operators that have an integer kernel worth using between two quantized ones.
        pass_through_ops: operators that only move or select values and read and write one shared scale.
        residual_adds: of an Add behind a convolution or matrix product, only the other operand is quantized: the
            product's accumulator flows into the addition unrounded.
        scales: float type that every scale must fit into without rounding: ``float32`` or ``float16``.
        float_results: those whose integer kernel can return float, so that a last layer keeps its resolution.
        float8_excluded: of ``pass_through_ops``, those that compute in a wider float between two 8-bit floats.
        float8_positions: positions of a convolution's kernel up to which it has float8 kernels; 0 for any number.
        weight_blocks: inputs of an output that may share a scale where kernels expand 4-bit weights on the fly, largest
            first.
    """

    activations: str = "uint8"
    symmetric_activations: bool = False
    weights: str = "int8"
    per_channel: bool = True
    reduced_range: bool = False
    bias: str = "int32"
    compute_ops: tuple[str, ...] = ()
    quantizable_neighbors: tuple[str, ...] = ()
    pass_through_ops: tuple[str, ...] = ()
    residual_adds: bool = False
    scales: str = "float32"
    float_results: tuple[str, ...] = ()
    float8_excluded: tuple[str, ...] = ()
    float8_positions: int = 0
    weight_blocks: tuple[int, ...] = (128, 64, 32)


@dataclass(frozen=True)
class SparsityPolicy:
    """What zeros in weights are worth on a target.

    Args:
        patterns: n:m patterns that it has kernels for, such as ``2:4``.
        gain: what such weights gain, for the report: a sentence without its full stop.
        no_gain: why other zeros save no time, likewise.
    """

    patterns: tuple[str, ...] = ()
    gain: str = ""
    no_gain: str = "nothing is known of kernels for sparse weights"


@dataclass(frozen=True)
class Target:
    """A device and the runtime on it.

    Args:
        name: as on the command line.
        description: one line for ``optimize targets``.
        backend: the backend that makes the artifact.
        this_machine: whether it is the machine at hand, so that measured figures are the target's own.
        opset_max: the newest operator set that its runtime reads.
        channel_multiple: channels come in multiples of this in its fastest kernels.
        fused_operators: operators that pay when several are fused into one.
        recipe: the built-in recipe that runs by default.
        memory_bytes: memory of the device; 0 when unknown.
        peak_gmacs: peak multiply-accumulates a second, in units of 1e9, by dtype name.
        bandwidth_gbs: memory bandwidth in GB/s; 0 when unknown.
        kernels: types that its arithmetic units compute in, by their ONNX names in lower case.
        quantization: the integer forms it runs fast.
        sparsity: which zeros it makes use of.
        settings: what only its backend reads, and validates.
        chosen: the choice of each option of the target, defaults included.
        canonical_name: how the command line names it: options that differ from their default stand in braces.
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
    kernels: tuple[str, ...] = ("float32", "int8")
    quantization: QuantizationPolicy = QuantizationPolicy()
    sparsity: SparsityPolicy = SparsityPolicy()
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    canonical_name: str = ""


def target_names() -> list[str]:
    """Names and aliases of all targets, sorted."""
    return sorted([*_tables(), *_aliases()])


def load_target(text: str) -> Target:
    """The target of that name or alias, with options in braces: ``jetson{jetpack=5.1,dla=on}``.

    Raises:
        UsageError: there is none, or an option or choice that it does not have; the message names the nearest.
    """
    called, choices = _parse(text)
    name = _known(called)
    table = _whole(name)
    chosen = _choose(table["options"], choices, called)
    for option, choice in chosen.items():
        changes = table["options"][option][choice]
        table = _merged(table, {key: value for key, value in changes.items() if key != "needs"})
    others = [
        f"{option}={choice}" for option, choice in chosen.items() if choice != table["options"][option]["default"]
    ]
    canonical_name = name + (f"{{{','.join(others)}}}" if others else "")
    return _read({**table, "name": name, "chosen": chosen, "canonical_name": canonical_name})


def aliases_of(name: str) -> list[str]:
    """Other names of a target, sorted."""
    return sorted(alias for alias, real in _aliases().items() if real == name)


def target_summaries() -> list[tuple[str, str, str]]:
    """Name, backend and description of each target, sorted by name; nothing is validated, so that this is quick."""
    tables = {name: _whole(name) for name in _tables()}
    return [(name, table.get("backend", Target.backend), table["description"]) for name, table in tables.items()]


@dataclass(frozen=True)
class Option:
    """Something about a target that is for the user to choose.

    Args:
        default: the choice that holds when none is given.
        choices: every choice, in the order of the file.
    """

    default: str
    choices: tuple[str, ...]


def options_of(name: str) -> dict[str, Option]:
    """The options of the target of that name or alias.

    Raises:
        UsageError: there is none of that name.
    """
    options = _whole(_known(name))["options"]
    return {option: Option(table["default"], _choices(table)) for option, table in options.items()}


def _known(name: str) -> str:
    """The target behind a name or alias."""
    real = _aliases().get(name, name)
    if real in _tables():
        return real
    fix = did_you_mean(name, target_names())
    if "=" in name:  # a shell expands braces with a comma in them: jetson{jetpack=5.1,dla=on} never arrives
        fix = "put it in quotes: 'NAME{option=choice,…}'"
    raise UsageError(f"unknown target {name!r}", where="--target", fix=fix)


def _choices(option: dict[str, Any]) -> tuple[str, ...]:
    return tuple(choice for choice in option if choice != "default")


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """Name and choices of ``jetson{jetpack=5.1,dla=on}``; choices stay text, for 6.10 is no number."""
    name, brace, rest = text.strip().partition("{")
    choices = {}
    for item in rest.removesuffix("}").split(",") if brace else ():
        option, equals, choice = (part.strip() for part in item.partition("="))
        if not (option and equals and choice and rest.endswith("}")) or option in choices:
            raise UsageError(f"cannot read {text!r}", where="--target", fix="write NAME{option=choice,…}")
        choices[option] = choice
    return name, choices


def _choose(options: dict[str, Any], choices: dict[str, str], name: str) -> dict[str, str]:
    """The choice of every option, checked against what the others need."""
    where = f"--target {name}"
    for option, choice in choices.items():
        if option not in options:
            fix = did_you_mean(option, options) if options else "give the name alone"
            raise UsageError(f"there is no option {option!r}", where=where, fix=fix)
        known = _choices(options[option])
        if choice not in known:  # among versions, the nearest name says nothing
            fix = did_you_mean(choice, known) if choice.isalpha() else f"choose one of: {', '.join(known)}"
            raise UsageError(f"{option} cannot be {choice!r}", where=where, fix=fix)
    chosen = {option: choices.get(option, table["default"]) for option, table in options.items()}
    for option, choice in chosen.items():
        for other, allowed in options[option][choice].get("needs", {}).items():
            if chosen[other] not in allowed:
                fitting = [one for one in _choices(options[other]) if one in allowed]
                raise UsageError(
                    f"{option}={choice} does not go with {other}={chosen[other]}",
                    where=where,
                    fix=f"choose {other} from: {', '.join(fitting)}",
                )
    return chosen


def _read(table: dict[str, Any]) -> Target:
    from pydantic import TypeAdapter

    choices = {key: value for key, value in table.items() if key not in ("aliases", "like", "adjust", "options")}
    for adjustment in table.get("adjust", ()) if table.get("this_machine") else ():
        if not set(adjustment["lacks"]) & set(cpu_features()):
            choices = _merged(choices, {key: value for key, value in adjustment.items() if key != "lacks"})
    return TypeAdapter(Target).validate_python(choices)


def _whole(name: str) -> dict[str, Any]:
    """The table of a target, on top of the one that it says it is ``like``."""
    table = _tables()[name]
    base = _whole(table["like"]) if "like" in table else {}
    options = {**base.get("options", {}), **table.get("options", {})}
    inherited = {key: value for key, value in base.items() if key not in OF_ONE_DEVICE}
    return {**_merged(inherited, table), "options": {option: choices for option, choices in options.items() if choices}}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``changes``, tables within it key by key."""
    both = {**base, **changes}
    return {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in both.items()
    }


@cache
def _tables() -> dict[str, dict[str, Any]]:
    files = sorted(FOLDER.glob("*.toml"), key=lambda file: file.stem)
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in files}


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, table in _tables().items() for alias in table.get("aliases", ())}
