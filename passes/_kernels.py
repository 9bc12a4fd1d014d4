"""What a target, its runtime or a model lacks, a type's kernels or an operator set: remedies that refusals name."""

from __future__ import annotations

from collections.abc import Callable

from graphpress.errors import UsageError
from graphpress.ir import Model, Refusal
from graphpress.targets import Target, load_target, options_of, target_summaries


def targets_with(dtype: str) -> str:
    """The remedy for a target without kernels of a type: the targets that have them.

    Args:
        dtype: by its ONNX name in lower case.
    """
    names = [
        choice for name, _, _ in target_summaries() for choice in _choices(name, lambda target: dtype in target.kernels)
    ]
    return f"quantize in another way, or for one of the targets that have them: {', '.join(names)}"


def lacking_opset(name: str, model: Model, needed: int) -> Refusal | None:
    """Why a pass cannot run in the operator set of a model; None where it can.

    Args:
        name: of the pass.
        model: to be changed.
        needed: the oldest operator set that expresses what the pass makes.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset >= needed:
        return None
    fix = f"run raise_opset{{to={needed}}} first; where that refuses, export with opset {needed}"
    return Refusal(name, f"needs opset {needed}, the model has {opset}", fix)


def choices_with_opset(target: Target, opset: int, otherwise: str) -> str:
    """The remedy for a target whose runtime is too old for an operator set: the choices of newer ones.

    Args:
        target: one that reads older operator sets only.
        opset: what is needed.
        otherwise: what to do where no choice of this target reads it.
    """
    choices = _choices(target.called, lambda choice: choice.opset_max >= opset)
    return f"choose a newer runtime: {', '.join(choices)}" if choices else otherwise


def _choices(name: str, suits: Callable[[Target], bool]) -> list[str]:
    """The target itself where it suits, else with a choice of an option that makes it suit; none of an unknown one."""
    if (plain := _loaded(name)) is None:
        return []
    if suits(plain):
        return [name]
    names = (f"{name}{{{option}={choice}}}" for option, known in options_of(name).items() for choice in known.choices)
    return [text for text in names if (target := _loaded(text)) is not None and suits(target)]


def _loaded(text: str) -> Target | None:
    try:
        return load_target(text)
    except UsageError:  # this choice needs another option, or the target was made in Python
        return None
