"""The command lines that build an engine, as data: the script for the device and the report are written from them.

A way of building is one model, one engine and the flags between them. Which flags exist changed from release to
release, so there is one rule instead of a ladder of versions: a flag is given where the tool's own help lists it, and
a tool that does not list one that is needed cannot build this way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.platform import Platform
from graphpress.printable import shell_word

WayName = Literal["strong", "weak", "dla"]
Variable = Literal["aside", "core"]

TIMING_CACHE: Final = "timing.cache"
LAYERS: Final = "layers.json"
CALIBRATION: Final = "calibration.cache"

TOOLS: Final = {"tensorrt": "trtexec", "tensorrt_rtx": "tensorrt_rtx"}
"""The command-line tool of each product."""

TYPE_FLAGS: Final = {
    "int8": "--int8",
    "float16": "--fp16",
    "bfloat16": "--bf16",
    "float8e4m3fn": "--fp8",
    "int4": "--int4",
}
"""What allows a type in a weakly typed network."""

BUILD_ONLY: Final = ("--skipInference", "--buildOnly")
"""To build and not to measure; each version lists one of them."""
ONE_RUN: Final = ("--warmUp=0", "--duration=0", "--iterations=1")
"""Where shapes are open, the list of layers holds types only for the shapes of a run."""

BUILDER_FLAGS: Final = {
    "int8": "INT8",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float8e4m3fn": "FP8",
    "int4": "INT4",
}
"""The same for TensorRT's Python package."""

UNLISTED: Final[Mapping[tuple[int, ...], frozenset[str]]] = {
    (1,): frozenset({*TYPE_FLAGS.values(), "--stronglyTyped", "--calib", "--useDLACore", "--buildOnly"}),
    (8,): frozenset({"--bf16", "--fp8", "--int4", "--stronglyTyped", "--skipInference"}),
    (8, 6): frozenset({"--bf16", "--int4", "--stronglyTyped", "--buildOnly"}),
    (10,): frozenset({"--buildOnly"}),
    (11,): frozenset({*TYPE_FLAGS.values(), "--stronglyTyped", "--calib", "--buildOnly"}),
}
"""What the help does not list from each release on, for command lines written where there is no tool to run."""


@dataclass(frozen=True)
class Flag:
    """One argument.

    Args:
        text: as it is written, such as ``--onnx=model.onnx``.
        needed: a tool that does not list it cannot build this way.
        variable: what is appended: ``aside`` where it names a file that is put in place once it is complete, ``core``
            for the number of the accelerator.
    """

    text: str
    needed: bool = False
    variable: Variable | None = None

    @property
    def option(self) -> str:
        """Its name in the tool's help."""
        return self.text.partition("=")[0]


@dataclass(frozen=True)
class Way:
    """One way of building.

    Args:
        name: ``strong`` or ``weak`` typing, or ``dla``.
        model: the ONNX file.
        plan: the engine.
        types: types that flags allow beside float32; of no meaning in strongly typed networks.
        flags: the arguments, in order.
    """

    name: WayName
    model: str
    plan: str
    types: tuple[str, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Needs:
    """What the flags depend on, beside the platform.

    Args:
        types: types beside float32 that are requested of nodes.
        profile: shapes of every input with open dimensions.
        workspace_mib: scratch memory that tactics may use; 0 for the tool's default.
        sparse: weights are 2:4 sparse.
    """

    types: Collection[str] = ()
    profile: Mapping[str, ShapeRange] | None = None
    workspace_mib: int = 0
    sparse: bool = False


def ways_of(platform: Platform, needs: Needs) -> list[Way]:
    """Every way to build for a platform, the preferred one first."""
    typings = [_typed(name, "-weak" if index else "", needs) for index, name in enumerate(platform.typing)]
    return [_accelerated(needs), *typings] if platform.dla else typings


def command_line(way: Way, tool: str, lists: Callable[[str], bool]) -> list[str]:
    """The arguments, the tool first, for one whose help lists what ``lists`` accepts."""
    values: dict[Variable | None, str] = {"aside": "", "core": "0", None: ""}
    return [tool, *(f"{flag.text}{values[flag.variable]}" for flag in way.flags if lists(flag.option))]


def missing(way: Way, lists: Callable[[str], bool]) -> list[str]:
    """Options that this way needs and the tool does not list."""
    return [flag.option for flag in way.flags if flag.needed and not lists(flag.option)]


def usual_command(way: Way, platform: Platform) -> str:
    """The command line for the version that the platform has, as one types it."""
    version = tuple(int(part) for part in platform.tensorrt.split("."))
    unlisted = UNLISTED[max(since for since in UNLISTED if since <= version)]
    return " ".join(map(shell_word, command_line(way, TOOLS[platform.product], lambda option: option not in unlisted)))


def listed(help_text: str) -> frozenset[str]:
    """The options that a tool's help lists: names at the start of a line, not those that its descriptions mention."""
    return frozenset(re.findall(r"^ {0,4}(--\w+)(?=[ =,]|$)", help_text, re.MULTILINE))


def _typed(name: Literal["strong", "weak"], suffix: str, needs: Needs) -> Way:
    model, plan = f"model{suffix}.onnx", f"model{suffix}.plan"
    types = tuple(dtype for dtype in TYPE_FLAGS if dtype in _allowed(needs.types)) if name == "weak" else ()
    typing = [Flag(TYPE_FLAGS[dtype], needed=True) for dtype in types] if name == "weak" else [Flag("--stronglyTyped")]
    return Way(name, model, plan, types, _around(model, plan, typing, needs))


def _accelerated(needs: Needs) -> Way:
    """The accelerator takes one shape only: the optimum one."""
    model, plan, types = "model-float.onnx", "model-dla.plan", ("int8", "float16")
    profile = {name: ShapeRange(shapes.opt, shapes.opt, shapes.opt) for name, shapes in (needs.profile or {}).items()}
    typing = [
        Flag("--useDLACore=", needed=True, variable="core"),
        Flag("--allowGPUFallback", needed=True),
        *(Flag(TYPE_FLAGS[dtype], needed=True) for dtype in types),
        Flag(f"--calib={CALIBRATION}", needed=True, variable="aside"),
        *_shapes(profile, "Calib"),
    ]
    return Way("dla", model, plan, types, _around(model, plan, typing, replace(needs, profile=profile)))


def _allowed(types: Collection[str]) -> set[str]:
    """Where something computes in integers, the rest may use float16: nobody quantizes to keep float32 elsewhere."""
    return {*types, "float16"} if "int8" in types else set(types)


def _around(model: str, plan: str, typing: Sequence[Flag], needs: Needs) -> tuple[Flag, ...]:
    return (
        Flag(f"--onnx={model}", needed=True),
        *typing,
        *_shapes(needs.profile or {}),
        *([Flag(f"--memPoolSize=workspace:{needs.workspace_mib}")] if needs.workspace_mib else []),
        *([Flag("--sparsity=enable")] if needs.sparse else []),
        Flag(f"--timingCacheFile={TIMING_CACHE}", variable="aside"),
        Flag("--profilingVerbosity=detailed"),
        Flag(f"--exportLayerInfo={LAYERS}", variable="aside"),
        Flag(f"--saveEngine={plan}", needed=True, variable="aside"),
        *(Flag(option) for option in (ONE_RUN if needs.profile else BUILD_ONLY)),
    )


def _shapes(profile: Mapping[str, ShapeRange], suffix: str = "") -> list[Flag]:
    """The optimization profile as three flags, or that of calibration, which a tool may do without."""
    if not profile:
        return []
    shapes = {
        "min": [spec(name, range_.min) for name, range_ in profile.items()],
        "opt": [spec(name, range_.opt) for name, range_ in profile.items()],
        "max": [spec(name, range_.max) for name, range_ in profile.items()],
    }
    return [Flag(f"--{which}Shapes{suffix}={','.join(specs)}", needed=not suffix) for which, specs in shapes.items()]


def spec(name: str, shape: Sequence[int]) -> str:
    """Name and shape of an input as the tool reads them; a name with a colon or comma goes in quotes.

    >>> spec("x", (1, 3, 8)), spec("x:0", ())
    ('x:1x3x8', "'x:0':scalar")
    """
    quoted = f"'{name}'" if set(name) & set(":,") else name
    return f"{quoted}:{'x'.join(map(str, shape)) or 'scalar'}"
