"""The device as the linter sees it: which operators and types the ONNX parser of its TensorRT reads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from graphpress.backends.tensorrt.platform import Platform, platform_of
from graphpress.lint import Limit
from graphpress.targets import Target

OPERATORS = Path(__file__).parents[1] / "operators.toml"

NARROW_INTEGERS_OPSET = 21
"""The operator set that int4 came with; TensorRT 10 reads its Q/DQ nodes whatever else it documents."""

Release = tuple[int, ...]


@dataclass(frozen=True)
class ReleaseLimit(Limit):
    """A limit of some releases.

    Args:
        until: the first release that lifts it; "" for none.
        products: those that it holds for; empty for all.
    """

    until: str = ""
    products: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParserVariant:
    """How the parser of another product differs.

    Args:
        parser: the TensorRT release whose parser it has.
        lacks: standard operators that it cannot build.
        microsoft: operators that ONNX Runtime adds to the standard and that it reads beside.
    """

    parser: str
    lacks: tuple[str, ...] = ()
    microsoft: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """The data file."""

    microsoft: tuple[str, ...]
    first_release: Mapping[str, tuple[str, ...]]
    first_type: Mapping[str, str]
    product: Mapping[str, ParserVariant]
    limit: tuple[ReleaseLimit, ...]

    @cached_property
    def since(self) -> Mapping[str, str]:
        """First release by operator."""
        return {operator: release for release, operators in self.first_release.items() for operator in operators}


@dataclass(frozen=True)
class Device:
    """A target with what its TensorRT can do.

    Args:
        target: as chosen.
        platform: its settings for this backend.
        before_folding: the model is an input: what hangs on constants alone will be folded away.
    """

    target: Target
    platform: Platform
    before_folding: bool = False

    @classmethod
    def of(cls, target: Target, *, before_folding: bool = False) -> Device:
        """The device of a target whose backend is tensorrt."""
        return cls(target, platform_of(target), before_folding)

    @property
    def runtime(self) -> str:
        """Its name without a version, for messages."""
        return "TensorRT"

    @property
    def title(self) -> str:
        """Product and version, for messages."""
        name = "TensorRT for RTX" if self._product else "TensorRT"
        return f"{name} {self.platform.tensorrt}"

    @cached_property
    def release(self) -> Release:
        """The TensorRT release whose parser this is."""
        return version(self._product.parser if self._product else self.platform.tensorrt)

    @property
    def opset_max(self) -> int:
        """The newest operator set that it reads."""
        documented = self.target.opset_max
        return max(documented, NARROW_INTEGERS_OPSET) if self.release >= (10,) else documented

    @cached_property
    def operators(self) -> frozenset[str]:
        """Standard operators that it reads."""
        lacks = self._product.lacks if self._product else ()
        known = (operator for operator, first in knowledge().since.items() if version(first) <= self.release)
        return frozenset(known) - set(lacks)

    @cached_property
    def microsoft_operators(self) -> frozenset[str]:
        """Operators that ONNX Runtime adds to the standard and that it reads."""
        alike = self.operators & set(knowledge().microsoft)
        return alike | set(self._product.microsoft if self._product else ())

    @cached_property
    def limits(self) -> Mapping[str, tuple[Limit, ...]]:
        """What holds here, by operator."""
        limits: dict[str, tuple[Limit, ...]] = {}
        for limit in knowledge().limit:
            if self._holds(limit):
                limits.update({operator: (*limits.get(operator, ()), limit) for operator in limit.operators})
        return limits

    def _holds(self, limit: ReleaseLimit) -> bool:
        lifted = limit.until and self.release >= version(limit.until)
        return not lifted and (not limit.products or self.platform.product in limit.products)

    def lacks_type(self, dtype: str) -> Literal["release", "hardware"] | None:
        """Whether the release or the processor has no such type (``float8e4m3fn``, …), or None where both do."""
        first = knowledge().first_type.get(dtype)
        if first is None or version(first) > self.release:
            return "release"
        narrow = dtype not in ("float32", "float16", "bool", "int32", "int64", "uint8")
        return "hardware" if narrow and dtype not in self.target.kernels else None

    @property
    def _product(self) -> ParserVariant | None:
        return knowledge().product.get(self.platform.product)


def version(text: str) -> Release:
    """Numbers of a version, to compare.

    >>> version("10.13") > version("10.9")
    True
    """
    return tuple(int(part) for part in text.split("."))


@cache
def knowledge() -> Knowledge:
    """What is known of the releases."""
    return TypeAdapter(Knowledge).validate_python(tomllib.loads(OPERATORS.read_text(encoding="utf-8")))
