"""A small network of everything that is not a plain node: If, Loop, Scan, a local function, a vendor's operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from graphpress.ir import Model
from graphpress.models.architecture import Architecture
from graphpress.models.builder import Builder

FUNCTION_DOMAIN = "graphpress.example"
VENDOR_DOMAIN = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class ControlFlow(Architecture):
    """Subgraphs read values of the outer graph, hold initializers of their own, and one lies inside another.

    Args:
        features: size of the input.
        steps: trip count of the loop.
    """

    features: int = 8
    steps: int = 3

    def build(self) -> Model:
        """From ``input`` (N, features) to ``output`` (N, features) and ``history`` (steps, N, features)."""
        b = self.builder()
        x = b.input("input", [self.batch, self.features])
        with b.scope("entry"):
            x = b.projection(x, (self.features, self.features))
            x = b.node("Swish", x, domain=FUNCTION_DOMAIN, alpha=1.5)
            x = b.node("Gelu", x, domain=VENDOR_DOMAIN)
        x = self._if(b, x)
        x, history = self._loop(b, x)
        x = self._scan(b, x)
        b.output(x, "output", [self.batch, self.features])
        b.output(history, "history", [self.steps, self.batch, self.features])
        return b.finish(functions=[_swish(self.opset)], domains={FUNCTION_DOMAIN: 1, VENDOR_DOMAIN: 1})

    def _body(self, name: str) -> Builder:
        """An empty subgraph; all its names begin with its own, so that none hides one of the outer graph."""
        return Builder(name, opset=self.opset, seed=self.seed, prefix=name)

    def _if(self, b: Builder, x: str) -> str:
        condition = b.node("Greater", b.node("ReduceMax", x, keepdims=0), b.literal(0.0))
        branches = {}
        for name, operator in (("then", "Relu"), ("else", "Neg")):
            body = self._body(f"{name}_branch")
            y = body.node("Add", body.node(operator, x), body.small(self.features))
            body.output(y, f"{name}_result", [self.batch, self.features])
            branches[f"{name}_branch"] = body.graph()
        return b.node("If", condition, **branches)

    def _loop(self, b: Builder, x: str) -> tuple[str, str]:
        """Repeat tanh(state W) with W of the outer graph, and collect every state."""
        with b.scope("loop"):
            weight = b.weight((self.features, self.features), self.features, 1.0)
            body = self._body("loop_body")
            dims = [self.batch, self.features]
            body.input("loop_step", [], np.int64)
            running, state = body.input("loop_running", [], np.bool_), body.input("loop_state", dims)
            body.output(body.node("Identity", running), "loop_continue", [], np.bool_)
            state = body.node("Tanh", body.node("MatMul", state, weight))
            body.output(self._maybe_clip(body, state), "loop_next", dims)
            body.output(body.node("Identity", state), "loop_seen", dims)
            trips, go = b.literal(np.array(self.steps)), b.literal(np.array(True))
            final, history = b.nodes("Loop", trips, go, x, outputs=2, body=body.graph())
        return final, history

    def _maybe_clip(self, b: Builder, x: str) -> str:
        """An If inside the loop's body."""
        condition = b.node("Greater", b.node("ReduceMax", x, keepdims=0), b.literal(0.5))
        branches = {}
        for name, high in (("then", 0.5), ("else", 1.0)):
            body = self._body(f"clip_{name}")
            y = body.node("Clip", x, body.literal(-high), body.literal(high))
            body.output(y, f"clip_{name}_result", [self.batch, self.features])
            branches[f"{name}_branch"] = body.graph()
        return b.node("If", condition, **branches)

    def _scan(self, b: Builder, x: str) -> str:
        """Add up the features from left to right."""
        with b.scope("scan"):
            body = self._body("scan_body")
            total, column = body.input("scan_total", [self.batch]), body.input("scan_column", [self.batch])
            total = body.node("Add", total, column)
            body.output(total, "scan_next", [self.batch])
            body.output(body.node("Identity", "scan_next"), "scan_seen", [self.batch])
            start = b.node("Mul", b.node("Gather", x, b.literal(np.array(0)), axis=1), b.literal(0.0))
            _, sums = b.nodes(
                "Scan", start, x, outputs=2, body=body.graph(), num_scan_inputs=1,
                scan_input_axes=[1], scan_output_axes=[1],
            )  # fmt: skip
        return sums


def _swish(opset: int) -> onnx.FunctionProto:
    """The model-local function x * sigmoid(alpha * x), alpha an attribute."""
    alpha = onnx.NodeProto(op_type="Constant", output=["alpha_value"], name="alpha")
    alpha.attribute.add(name="value_float", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    nodes = [
        alpha,
        helper.make_node("Mul", ["x", "alpha_value"], ["scaled"], name="scale"),
        helper.make_node("Sigmoid", ["scaled"], ["gate"], name="gate"),
        helper.make_node("Mul", ["x", "gate"], ["y"], name="multiply"),
    ]
    imports = [helper.make_opsetid("", opset)]
    return helper.make_function(FUNCTION_DOMAIN, "Swish", ["x"], ["y"], nodes, imports, attributes=["alpha"])
