"""The small models that mutations start from: each kind of graph that the compiler has to do with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import onnx.parser
from onnx import external_data_helper, numpy_helper

from graphpress.ir import from_proto, to_proto
from graphpress.ir.encoding import (
    AffineEncoding,
    CodebookEncoding,
    dynamic_encoding,
    encode_array,
    override_use,
    request_compute,
    set_codes,
    set_encoding,
)
from graphpress.models import build

WEIGHTS_FILE = "weights.bin"

SIZES = {"batch": 4, "N": 4, "sequence": 6, "steps": 5}
"""What the free sizes of the seeds are when they are fed; any other is the first."""

_LAYOUT = """
(float[N,4,8,8] x) => (float[N,6] y, float[N,8,8,8] z) {
  a = Conv <pads: ints = [1,1,1,1], group: int = 2> (x, w1)
  c, d = Split <axis: int = 1> (a, halves)
  e = Clip (c, low, high)
  f = PRelu (d, slope)
  g = Concat <axis: int = 1> (e, f)
  h = Transpose <perm: ints = [0,2,3,1]> (g)
  i = Transpose <perm: ints = [0,3,1,2]> (h)
  j = Pad (i, pads)
  k = MaxPool <kernel_shape: ints = [2,2], strides: ints = [2,2]> (j)
  l = ConvTranspose <strides: ints = [2,2]> (k, w2, b2)
  m = Slice (l, starts, ends, axes)
  n = Sigmoid (m)
  z = Mul (m, n)
  p = GlobalAveragePool (z)
  q = Flatten (p)
  y = Gemm <transB: int = 1> (q, w3, b3)
}
"""
_SHAPES = """
(float[N,4,6] x, int64[2] indices) => (float[N,24] flat, float[N,4,12] wide, int64[K,3] places) {
  s = Shape (x)
  n = Gather <axis: int = 0> (s, zero)
  u = Unsqueeze (n, axis0)
  t = Concat <axis: int = 0> (u, minus)
  flat = Reshape (x, t)
  r = Resize <mode: string = "nearest"> (x, , scales)
  e = Expand (one, s)
  w0 = Tile (e, repeats)
  wide = Add (r, w0)
  g = Gather <axis: int = 1> (x, indices)
  o = Greater (g, zerof)
  v = NonZero (o)
  places = Transpose <perm: ints = [1,0]> (v)
}
"""
_KINDS = """
(float[N,4] x, string[N] words, bool[N,4] mask)
=> (float[N,4] y, string[N] said, int64[N] best, double[N] d, float[N,4] u) {
  h = Cast <to: int = 10> (x)
  k = Mul (h, half)
  f = Cast <to: int = 1> (k)
  y = Where (mask, f, x)
  said = Identity (words)
  best = ArgMax <axis: int = 1, keepdims: int = 0> (x)
  w = Cast <to: int = 11> (x)
  d = ReduceSum <keepdims: int = 0> (w, axis1)
  q = SequenceConstruct (x, f)
  p = SequenceAt (q, zero)
  v, i = TopK <axis: int = 1> (p, three)
  m = ReduceMax <keepdims: int = 1> (v, axis1)
  u = Max (x, m)
}
"""
_QUANTIZED = """
(float[N,8] x) => (float[N,3] y) {
  a = QuantizeLinear (x, s1, z1)
  b = DequantizeLinear (a, s1, z1)
  w = DequantizeLinear <axis: int = 1> (codes, s2, z2)
  c = MatMul (b, w)
  d = Relu (c)
  e = QuantizeLinear (d, s3, z1)
  f = DequantizeLinear (e, s3, z1)
  v = DequantizeLinear <axis: int = 1> (codes3, s4, z4)
  g = MatMul (f, v)
  y = Add (g, bias)
}
"""
_PLAIN = "(float[N,8] x) => (float[N,3] y) { h = MatMul (x, w) a = Relu (h) g = MatMul (a, v) y = Add (g, bias) }"
_WIDE = "(float[N,8] x) => (float[N,3] y) { h = Gemm (x, w, b) a = Relu (h) g = Gemm (a, v, c) y = Softmax (g) }"


@cache
def seeds() -> Mapping[str, tuple[bytes, Mapping[str, bytes]]]:
    """Each seed by its name: the model file, and the files beside it."""
    models = {
        "convolutions": to_proto(build("resnet", depth=8, stem="cifar", width=4, image=8)),
        "encoder": to_proto(build("bert", layers=1, width=8, heads=2, vocabulary=12, longest=8)),
        "decoder": to_proto(
            build("gpt", layers=1, width=8, heads=2, vocabulary=12, longest=8, rotary=True, norm="rms")
        ),
        "recurrent": to_proto(build("lstm", layers=1, features=4, hidden=4, classes=3)),
        "control flow": to_proto(build("control_flow", features=4, steps=2)),
        "layout": _layout(),
        "shapes": _shapes(),
        "kinds": _kinds(),
        "quantized": _quantized(),
        "annotated": _annotated(),
        "unspoken": _unspoken(),
    }
    whole = {name: (model.SerializeToString(), {}) for name, model in models.items()}
    return {**whole, "external": _external()}


def _model(text: str, opset: int = 20, **weights: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    return onnx.shape_inference.infer_shapes(model)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def _layout() -> onnx.ModelProto:
    return _model(
        _LAYOUT,
        w1=_normal(8, 2, 3, 3), halves=np.array([4, 4]), low=np.float32(0), high=np.float32(6), slope=_normal(4, 1, 1),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), w2=_normal(8, 8, 2, 2), b2=_normal(8), starts=np.array([1, 1]),
        ends=np.array([9, 9]), axes=np.array([2, 3]), w3=_normal(6, 8), b3=_normal(6),
    )  # fmt: skip


def _shapes() -> onnx.ModelProto:
    return _model(
        _SHAPES,
        zero=np.array(0), axis0=np.array([0]), minus=np.array([-1]), scales=np.array([1, 1, 2], np.float32),
        one=np.ones((1, 1, 1), np.float32), repeats=np.array([1, 1, 2]), zerof=np.float32(0),
    )  # fmt: skip


def _kinds() -> onnx.ModelProto:
    return _model(_KINDS, half=np.float16(0.5), axis1=np.array([1]), zero=np.array(0), three=np.array([3]))


def _quantized() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    return _model(
        _QUANTIZED,
        s1=np.float32(0.03), z1=np.uint8(128), s3=np.float32(0.02),
        codes=random.integers(-127, 128, (8, 6), np.int8), s2=np.full(6, 0.01, np.float32), z2=np.zeros(6, np.int8),
        codes3=random.integers(-127, 128, (6, 3), np.int8), s4=np.full(3, 0.01, np.float32), z4=np.zeros(3, np.int8),
        bias=_normal(3),
    )  # fmt: skip


def _annotated() -> onnx.ModelProto:
    """Encodings as the compiler writes them into files: codes, a range, and what a node was asked for."""
    model = from_proto(_model(_PLAIN, 21, w=_normal(8, 6), v=_normal(6, 3), bias=_normal(3)), where="annotated")
    weights, nodes = model.graph.initializers, list(model.graph)
    for name, encoding in {
        "w": AffineEncoding("int4", np.full((2, 6), 0.3), axis=0, block=4),
        "v": AffineEncoding("int8", np.full(3, 0.02), axis=1),
    }.items():
        set_codes(weights[name], encode_array(weights[name].const_value.numpy(), encoding), encoding)
    set_encoding(nodes[1].outputs[0], AffineEncoding("uint8", 0.05))
    override_use(nodes[0], 0, AffineEncoding("uint8", 0.03, 128))
    request_compute(nodes[0], "int8")
    return to_proto(model)


def _unspoken() -> onnx.ModelProto:
    """Encodings that no Q/DQ nodes express."""
    model = from_proto(_model(_PLAIN, 21, w=_normal(8, 6), v=_normal(6, 3), bias=_normal(3)), where="unspoken")
    weight, book = model.graph.initializers["v"], CodebookEncoding("uint4", np.linspace(-2, 2, 16))
    set_codes(weight, encode_array(weight.const_value.numpy(), book), book)
    override_use(model.graph[0], 0, dynamic_encoding("uint8"))
    return to_proto(model)


def _external() -> tuple[bytes, dict[str, bytes]]:
    """Its weights lie in a file beside it."""
    model = _model(_WIDE, w=_normal(8, 6), b=_normal(6), v=_normal(6, 3), c=_normal(3))
    contents = b""
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        external_data_helper.set_external_data(tensor, WEIGHTS_FILE, len(contents), len(data))
        tensor.ClearField("raw_data")
        contents += data
    return model.SerializeToString(), {WEIGHTS_FILE: contents}
