"""What the rules ask of a runtime. A backend answers from its data, and adds what rules of its own want to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Limit:
    """What a runtime refuses of operators that it reads otherwise. Each checks one thing.

    Args:
        operators: standard operators that it holds for.
        why: the end of a sentence that begins with the runtime and the operator: ``has no text``.
        fix: what helps.
        outputs: more outputs than this are used.
        inputs: more inputs than this are given.
        attribute: has a value that is not among ``allowed``, or a text that contains ``without``.
        allowed, without: see ``attribute``; an attribute of which nothing is allowed must be absent.
        rank: the first input has another.
        input: index of an input that is not constant, or a constant above ``max``.
        constant: says in the data that it is the first of these.
        max: see ``input``.
        types: the first input has a type that is not among these.
        given: ``types`` counts only where the input of this index is given.
        scans: holds for loops alone, where they stack what each round makes.
    """

    operators: tuple[str, ...]
    why: str
    fix: str
    outputs: int | None = None
    inputs: int | None = None
    attribute: str = ""
    allowed: tuple[Any, ...] | None = None
    without: str = ""
    rank: int | None = None
    input: int | None = None
    constant: bool = False
    max: int | None = None
    types: tuple[str, ...] | None = None
    given: int | None = None
    scans: bool = False


class Support(Protocol):
    """A runtime on a device, as data."""

    @property
    def runtime(self) -> str:
        """Its name without a version, for messages."""
        ...

    @property
    def title(self) -> str:
        """Product and version, for messages."""
        ...

    @property
    def before_folding(self) -> bool:
        """Whether the model is an input, whose nodes that hang on constants alone will be folded away."""
        ...

    @property
    def opset_max(self) -> int:
        """The newest operator set that it reads."""
        ...

    @property
    def operators(self) -> frozenset[str]:
        """Standard operators that it reads."""
        ...

    @property
    def limits(self) -> Mapping[str, tuple[Limit, ...]]:
        """By operator, what it refuses of those that it reads."""
        ...
