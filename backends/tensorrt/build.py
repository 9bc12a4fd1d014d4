"""Building an engine: the request to TensorRT, and its result. The work runs in a process of its own.

A build can take gigabytes and, on a bad network, the whole process with it; a separate one gives the memory back
and turns a crash into a message.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from graphpress.backends.tensorrt.engine_layers import EngineLayer
from graphpress.child_process import run_module
from graphpress.errors import BackendError, ModelError, ResourceError

if TYPE_CHECKING:  # the building process has no need of the graph's library, which takes longest to import
    from graphpress.backend import ShapeRange

Route = Literal["parser", "network"]

WORKER: Final = "graphpress.backends.tensorrt.worker"
LONGEST_SECONDS: Final = 2 * 3600.0
"""What one build may take: hours are usual on small devices, days are a build that hangs."""


@dataclass(frozen=True)
class BuildRequest:
    """One engine, or one for several compute capabilities.

    Args:
        model: the legalized ONNX file.
        capability: compute capability to build for, such as ``8.6``; "" for the GPU at hand.
        profile: shapes of every input with open dimensions.
        route: through TensorRT's own ONNX parser, or lowered from the graph to its network API.
        flags: builder flags by name (``FP16``, ``INT8``, ``SPARSE_WEIGHTS``), for weakly typed networks.
        strong: strongly typed, where the TensorRT at hand has the choice.
        plan: where to write the engine; None when only the result matters.
        timing_cache: file to read and write what was timed; None for none.
        workspace: bytes of scratch memory that tactics may use; 0 for TensorRT's default.
        product: ``tensorrt`` or ``tensorrt_rtx``; "" for whichever is installed.
        timeout: seconds after which the build is given up.
    """

    model: Path
    capability: str = ""
    profile: Mapping[str, ShapeRange] = field(default_factory=dict)
    route: Route = "parser"
    flags: Sequence[str] = ()
    strong: bool = True
    plan: Path | None = None
    timing_cache: Path | None = None
    workspace: int = 0
    product: str = ""
    timeout: float = LONGEST_SECONDS


@dataclass(frozen=True)
class Message:
    """One message of TensorRT.

    Args:
        severity: ``internal_error``, ``error``, ``warning``, ``info`` or ``verbose``.
        text: as TensorRT wrote it.
        node: name of the ONNX node concerned, "" where it names none.
        operator: the operator of that node, "" where it is unknown.
    """

    severity: str
    text: str
    node: str = ""
    operator: str = ""


@dataclass(frozen=True)
class BuildResult:
    """What came of a build.

    Args:
        built: whether there is an engine.
        messages: warnings and errors, in order.
        layers: the engine's layers with their types, where TensorRT listed them.
        bytes: size of the engine.
        seconds: time of parsing and building.
        peak_bytes: resident memory of the building process at its peak.
    """

    built: bool
    messages: Sequence[Message] = ()
    layers: Sequence[EngineLayer] = ()
    bytes: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


def build(request: BuildRequest) -> BuildResult:
    """Build in a process of its own.

    A model that TensorRT refuses is no error here: the result shows that nothing was built, and its messages why.

    Raises:
        BackendError: TensorRT is absent, cannot do what is requested at all, died, or ran out of time; the message
            holds the last lines of its output.
        ModelError: the model cannot be lowered to its network, on the route ``network``.
        ResourceError: the machine lacks what the build takes.
    """
    try:
        done = run_module(WORKER, to_json(request), request.timeout)
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"TensorRT was still building after {request.timeout:g} s, the limit of one build, and was stopped",
            where=str(request.model),
            fix="exclude the nodes that take so long (--exclude), or build on a faster machine: build.sh has no limit",
        ) from error
    if done.returncode != 0:
        raise BackendError(
            f"TensorRT's process died {_cause(done.returncode)}: {_last(done.stderr)}",
            where=str(request.model),
            fix="exclude the nodes that it last spoke of (--exclude), and report it to NVIDIA with the model",
        )
    return _result(json.loads(done.stdout))


def to_json(request: BuildRequest) -> str:
    """The request as the worker reads it."""
    return json.dumps(asdict(request), default=str)


def request_from_json(fields: dict[str, Any]) -> BuildRequest:
    """What ``to_json`` wrote."""
    plan, cache = fields.pop("plan"), fields.pop("timing_cache")
    return BuildRequest(
        **{
            **fields,
            "model": Path(fields["model"]),
            "plan": Path(plan) if plan else None,
            "timing_cache": Path(cache) if cache else None,
        }
    )


def _result(report: dict[str, Any]) -> BuildResult:
    """The result, or the error that the worker met."""
    if "error" in report:
        kind = {"ModelError": ModelError, "ResourceError": ResourceError}.get(report["error"].pop("kind"), BackendError)
        raise kind(**report["error"])
    fields = report["result"]
    messages = [Message(**message) for message in fields.pop("messages")]
    layers = [EngineLayer(**layer) for layer in fields.pop("layers")]
    return BuildResult(messages=messages, layers=layers, **fields)


def _cause(code: int) -> str:
    try:
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    except ValueError:
        return f"by signal {-code}"


def _last(text: str, lines: int = 4) -> str:
    shown = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(shown[-lines:]) or "it said nothing"
