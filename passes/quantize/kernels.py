"""Where a type has kernels that this target lacks: the remedies that refusals name."""

from __future__ import annotations

from graphpress.errors import UsageError
from graphpress.targets import Target, load_target, target_summaries
from graphpress.targets.target import options_of


def targets_with(dtype: str) -> str:
    """The remedy for a target without kernels of a type: the targets that have them.

    Args:
        dtype: by its ONNX name in lower case.
    """
    names = [name for name, _, _ in target_summaries() if dtype in load_target(name).kernels]
    return f"quantise in another way, or for one of the targets that have them: {', '.join(names)}"


def choices_with_opset(target: Target, opset: int) -> str:
    """The remedy for a target whose runtime is too old for an operator set: the choices of newer ones."""
    choices = [
        f"{target.name}{{{option}={word}}}"
        for option, known in options_of(target.name).items()
        for word in known.words
        if _reads(f"{target.name}{{{option}={word}}}", opset)
    ]
    return f"choose a newer runtime: {', '.join(choices)}" if choices else "quantise in another way"


def _reads(target: str, opset: int) -> bool:
    try:
        return load_target(target).opset_max >= opset
    except UsageError:  # this word needs another option
        return False
