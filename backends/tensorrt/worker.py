"""The process that builds: a request as JSON on its standard input, the answer as JSON on its standard output.

    python -m graphpress.backends.tensorrt.worker < request.json > answer.json

TensorRT prints what it likes to standard output, and dies of what it does not like. So the answer goes out through a
copy of that descriptor while the descriptor itself points to standard error, and warnings are said there as they come:
if the process dies, what it last said remains.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphpress.backends.tensorrt.build import BuildRequest, BuildResult, Message, request_from_json
from graphpress.backends.tensorrt.layers import HEADING, parse_layers
from graphpress.backends.tensorrt.toolchain import Toolchain, find_toolchain

SEVERITIES = ("internal_error", "error", "warning", "info", "verbose")


def main() -> int:
    """Answer one request."""
    request = request_from_json(json.loads(sys.stdin.read()))
    answer = os.dup(1)
    os.dup2(2, 1)
    toolchain = find_toolchain(request.product or None)
    if toolchain is None:
        result = BuildResult(False, [Message("error", f"{request.product or 'TensorRT'} is not installed")])
    else:
        result = Build(toolchain, request).run()
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump(asdict(result), stream)
    return 0


class Build:
    """One build; everything TensorRT reads is kept alive until it is done."""

    def __init__(self, toolchain: Toolchain, request: BuildRequest) -> None:
        self.toolchain, self.request, self.trt = toolchain, request, toolchain.module
        self.messages: list[Message] = []
        self.dump = ""
        self.logger = _logger(self.trt, self._hear)
        self.builder = self.trt.Builder(self.logger)
        self.network = self.builder.create_network(toolchain.creation_flags(request.strong))
        self.config = self.builder.create_builder_config()

    def run(self) -> BuildResult:
        """Parse, configure, build, and say what came of it."""
        start = time.perf_counter()
        plan = self._plan()
        if plan is not None and self.request.plan is not None:
            self.request.plan.write_bytes(plan)
        return BuildResult(
            built=plan is not None,
            messages=self.messages,
            layers=parse_layers(self.dump),
            bytes=0 if plan is None else plan.nbytes,
            seconds=time.perf_counter() - start,
            peak_bytes=peak_bytes(),
        )

    def _hear(self, severity: Any, text: str) -> None:
        name = _severity(severity)
        if text.startswith(HEADING):
            self.dump = text
        elif SEVERITIES.index(name) <= SEVERITIES.index("warning"):
            self._say(Message(name, text))

    def _say(self, message: Message) -> None:
        self.messages.append(message)
        print(f"{message.severity}: {message.text}", file=sys.stderr, flush=True)

    def _plan(self) -> Any | None:
        if not (self._lower() if self.request.route == "network" else self._parse()):
            return None
        self._configure()
        return self.builder.build_serialized_network(self.network, self.config)

    def _parse(self) -> bool:
        """Read the model with TensorRT's own parser, from its file: external data stands beside it."""
        parser = self.trt.OnnxParser(self.network, self.logger)
        parsed = parser.parse_from_file(os.fspath(self.request.model))
        for index in range(parser.num_errors):
            self._say(_parser_message(parser.get_error(index)))
        if parsed and not self.network.num_outputs:
            self._say(Message("error", "the parser read no output: this is no ONNX model"))
        return bool(parsed and self.network.num_outputs)

    def _lower(self) -> bool:
        """Lower the graph ourselves, operator by operator."""
        from graphpress.backends.tensorrt.network.lower import lower_network
        from graphpress.ir import load

        lower_network(load(self.request.model), self.trt, self.network, strong=self.request.strong)
        return True

    def _configure(self) -> None:
        trt, config, request = self.trt, self.config, self.request
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if request.capability:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self.toolchain.compute_capability(request.capability), 0)
        for flag in request.flags:
            if flag in self.toolchain.flags:
                config.set_flag(getattr(trt.BuilderFlag, flag))
            else:
                self._say(Message("warning", f"{self.toolchain.title} has no builder flag {flag}"))
        if request.workspace:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace)
        if request.profile:
            profile = self.builder.create_optimization_profile()
            for name, shapes in request.profile.items():
                profile.set_shape(name, *shapes)
            config.add_optimization_profile(profile)


def _logger(trt: Any, hear: Any) -> Any:
    class Listener(trt.ILogger):  # type: ignore[misc]
        """Hears everything."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            hear(severity, msg)

    return Listener()


def _severity(severity: Any) -> str:
    return SEVERITIES[min(int(severity), len(SEVERITIES) - 1)]


def _parser_message(error: Any) -> Message:
    node = error.node_name() if hasattr(error, "node_name") else ""
    return Message("error", error.desc(), node)


def peak_bytes() -> int:
    """Resident memory of this process at its peak; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    sys.exit(main())
