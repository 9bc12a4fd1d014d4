"""Deliver an ONNX file that ONNX Runtime runs fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from graphpress.analysis.shapes import infer_shapes, with_inner_shapes
from graphpress.backend import Artifact, Availability, Backend, CompileOptions, Findings, Prepared
from graphpress.backends.onnxruntime.kernel_times import node_seconds
from graphpress.backends.onnxruntime.look_up_codes import look_up_codes
from graphpress.backends.onnxruntime.running import (
    INTEGER_KERNELS,
    QUANTIZERS,
    arithmetic_of,
    arithmetic_of_fused,
    graphs_of,
    integer_layers,
)
from graphpress.backends.onnxruntime.spell_dynamic import spell_dynamic_products
from graphpress.backends.onnxruntime.spell_lstm import spell_dynamic_lstms
from graphpress.ir import (
    DataType,
    Model,
    Node,
    Refusal,
    clone,
    copy_model,
    forget_inner_types,
    graphs,
    input_of,
    is_constant,
    is_standard,
    load,
    save,
    tensors,
)
from graphpress.ir.encoding import compute_request, compute_requests, float_type, read_encoding
from graphpress.ir.files import read_message
from graphpress.ir.opaque import carry_opacity, opaque_nodes
from graphpress.ir.qdq import materialize_qdq, unmaterializable
from graphpress.ir.saturation import absorb_activations
from graphpress.runtime import KEPT_BYTES, Session, keep_float_layers
from graphpress.runtime.float_layers import LAYERS, WEIGHT
from graphpress.scratch import scratch_folder
from graphpress.targets import Target

OTHER_ARITHMETIC = frozenset(DataType) - {
    DataType[name] for name in ("FLOAT", "BOOL", "INT32", "INT64", "UINT32", "UINT64", "STRING")
}
"""Types of constants that do not go with float32 alone."""

RANGES_UNUSED = "--input-range changed nothing: ONNX Runtime takes any shape, and tunes for none"

ROUNDED = "ONNX Runtime rounds its weights to int8 while loading, though it was left float"
UNROUNDED = "load the model with disabled_optimizers=['WeightBiasQuantization']"


class OnnxRuntimeBackend(Backend):
    """Expresses encodings as Q/DQ nodes, which ONNX Runtime fuses into integer kernels while loading."""

    def available(self) -> Availability:
        """It is a core dependency: it works unless the installation is broken."""
        try:
            return Availability(True, f"onnxruntime {version('onnxruntime')}")
        except PackageNotFoundError:
            return Availability(False, "onnxruntime is not installed", "pip install onnxruntime")

    def check(self, model: Model, options: CompileOptions) -> list[Refusal]:
        """Encodings that no Q/DQ nodes express."""
        return unmaterializable(model, dynamic=True)

    def prepare(self, annotated: Model, target: Target) -> Prepared:
        """Write the encodings as Q/DQ nodes, in the words for which ONNX Runtime has integer kernels, and shield the
        layers between them that stay float.
        """
        delivered = clone(annotated)
        materialize_qdq(delivered)
        spell_dynamic_products(delivered)
        spell_dynamic_lstms(delivered)
        absorb_activations(delivered)
        look_up_codes(delivered)
        keep_float_layers(delivered)
        forget_inner_types(delivered)
        return Prepared(annotated, delivered, simulation=delivered)

    def compile(self, prepared: Prepared, options: CompileOptions, out: Path) -> Artifact:
        """Write ``out/model.onnx`` (and its data file when large) and load it."""
        notes = (RANGES_UNUSED,) if options.ranges else ()
        files = write_model(prepared, options, out)
        left_float = None if _is_all_float(prepared) else _left_float(prepared.annotated)
        return OnnxRuntimeArtifact(files, options.threads, notes, left_float, _partial(files[0], prepared.delivered))


def write_model(prepared: Prepared, options: CompileOptions, out: Path) -> list[Path]:
    """Write what is delivered as ``out/model.onnx``, or the files of the input model where that is delivered as it is.

    Returns:
        The model, then its external data.
    """
    if options.unchanged:
        return copy_model(options.unchanged, out)
    delivered = with_inner_shapes(prepared.delivered) if options.inner_shapes else prepared.delivered
    return save(delivered, out / "model.onnx")


class OnnxRuntimeArtifact:
    """A model file and the session that runs it.

    Args:
        files: the model file, then its external data.
        threads: of the session.
        notes: for the report.
        left_float: names of the layers with weights that nobody asked to compute in integers; None where the model
            computes in float32 alone: then that needs no look at the graph that runs.
        model: what is in the file, where only a part of that can be run.
    """

    def __init__(
        self,
        files: list[Path],
        threads: int,
        notes: Sequence[str] = (),
        left_float: frozenset[str] | None = None,
        model: Model | None = None,
    ) -> None:
        self.files, self._model = files, files[0] if model is None else model
        self._threads, self._notes, self._left_float = threads, notes, left_float
        self._session = Session(self._model, threads=threads)

    @property
    def bytes(self) -> int:
        """Size of the model with its external data."""
        return sum(file.stat().st_size for file in self.files)

    def run(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run once."""
        return self._session.run(feed)

    def stand_by(self) -> None:
        """Give the memory of a large model back until the next run."""
        self._session.stand_by()

    def renew(self) -> None:
        """Let the next run load the model anew."""
        self._session.renew()

    def node_seconds(self, feed: Mapping[str, np.ndarray]) -> Mapping[str, float]:
        """From a profile; of a model with large weights none is made, which would take as much memory again."""
        self.stand_by()
        return {} if self.bytes > KEPT_BYTES else node_seconds(self.files[0], feed, self._threads)

    def findings(self) -> Findings:
        """Read off the graph that really runs: ONNX Runtime keeps a node's name, but for a suffix."""
        if self._left_float is None:
            return Findings(notes=self._notes)
        self.stand_by()
        with scratch_folder() as scratch:
            optimized = scratch / "optimized.onnx"
            Session(self._model, threads=self._threads, optimized_path=optimized)
            running = graphs_of(read_message(optimized).graph)
        graph = running[0]
        became = {name: dtype for part in running for name, dtype in arithmetic_of(part).items()}
        rounded = sorted(self._left_float & integer_layers(graph, became))
        refusals = [Refusal(name, ROUNDED, UNROUNDED) for name in rounded]
        became = {**became, **arithmetic_of_fused(read_message(self.files[0]).graph, graph, became)}
        return Findings(became, self._notes, refusals)


def _partial(file: Path, delivered: Model) -> Model | None:
    """What was written, read again, where opaque operators keep a session from being made of the file."""
    if not opaque_nodes(delivered):
        return None
    model = load(file)
    infer_shapes(model)
    carry_opacity(delivered, model)
    return model


def _is_all_float(prepared: Prepared) -> bool:
    """Whether nothing was asked for, and the model holds nothing of which ONNX Runtime makes other arithmetic."""
    delivered = prepared.delivered
    return (
        not compute_requests(prepared.annotated)
        and not any(tensor.dtype in OTHER_ARITHMETIC for tensor in tensors(delivered))
        and not any(
            node.op_type in INTEGER_KERNELS or node.op_type in QUANTIZERS or float_type(node) is not None
            for graph in graphs(delivered)
            for node in graph
        )
    )


def _left_float(annotated: Model) -> frozenset[str]:
    """Layers whose weights are plain floats, and that were asked for nothing."""
    return frozenset(
        node.name or ""
        for graph in graphs(annotated)
        for node in graph
        if is_standard(node, *LAYERS) and compute_request(node) is None and _has_plain_weight(node)
    )


def _has_plain_weight(node: Node) -> bool:
    """Whether it multiplies by a constant that is not quantized."""
    return is_constant(input_of(node, WEIGHT)) and read_encoding(node, WEIGHT) is None
