"""Products of two activations that are read in codes: integers, bit for bit what ONNX Runtime's QLinearMatMul gives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import compiled_outputs, graph

from graphpress.backends.tvm.codegen.isa import ISAS
from graphpress.backends.tvm.emulator import find_emulator
from graphpress.backends.tvm.kernels.code_product import CodeProduct
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.ir import clone
from graphpress.ir.qdq import import_qdq
from graphpress.runtime import Session

RNG = np.random.default_rng(0)
ATTENTION = """(float[2,7,24] q, float[2,9,24] k, float[2,9,24] v, float[1,5,9] w, float[2,3,7,9] p) => (
    float[2,3,7,9] s, float[2,7,24] y, float[2,5,24] z) {
    qs = QuantizeLinear(q, s1, z1)  qd = DequantizeLinear(qs, s1, z1)
    ks = QuantizeLinear(k, s2, z2)  kd = DequantizeLinear(ks, s2, z2)
    vs = QuantizeLinear(v, s3, z3)  vd = DequantizeLinear(vs, s3, z3)
    ws = QuantizeLinear(w, s1, z1)  wd = DequantizeLinear(ws, s1, z1)
    qr = Reshape(qd, heads)  qh = Transpose<perm = [0,2,1,3]>(qr)
    kr = Reshape(kd, heads)  kh = Transpose<perm = [0,2,3,1]>(kr)
    vr = Reshape(vd, heads)  vh = Transpose<perm = [0,2,1,3]>(vr)
    scores = MatMul(qh, kh)
    ss = QuantizeLinear(scores, s4, z4)  s = DequantizeLinear(ss, s4, z4)
    ps = QuantizeLinear(p, s5, z5)  pd = DequantizeLinear(ps, s5, z5)
    values = MatMul(pd, vh)
    us = QuantizeLinear(values, s4, z4)  ud = DequantizeLinear(us, s4, z4)
    turned = Transpose<perm = [0,2,1,3]>(ud)
    y = Reshape(turned, merged)
    weighted = MatMul(wd, vd)
    zs = QuantizeLinear(weighted, s4, z4)  z = DequantizeLinear(zs, s4, z4)
}"""


def constants() -> dict[str, np.ndarray]:
    """Scales and zero-points."""
    scales = {f"s{n}": np.float32(scale) for n, scale in enumerate((0.021, 0.017, 0.03, 0.05, 1 / 255), 1)}
    zeros = {f"z{n}": np.uint8(zero) for n, zero in enumerate((119, 140, 128, 126, 0), 1)}
    shapes = {"heads": np.array([2, -1, 3, 8]), "merged": np.array([2, 7, 24])}
    return {name: np.asarray(array) for name, array in (scales | zeros | shapes).items()}


@pytest.mark.parametrize("name", ["newest", "neon", "avx2"])
def test_scores_and_values_of_attention(name, here, tmp_path):
    """AVX2's products of bytes saturate: it multiplies the numbers."""
    isa = here[-1] if name == "newest" else ISAS[name]
    if isa not in here and find_emulator(isa) is None:
        pytest.skip("needs qemu-user")
    model = graph(ATTENTION, **constants())
    data = {value.name: RNG.standard_normal(value.shape.numpy()).astype(np.float32) for value in model.graph.inputs}
    data["p"] = np.abs(data["p"]) / 4  # as weights of values, whose least code is zero
    annotated = clone(model)
    import_qdq(annotated)
    kernels = [step.kernel for step in lower(annotated, isa).steps]
    assert sum(isinstance(kernel, CodeProduct) for kernel in kernels) == (0 if name == "avx2" else 3)
    results = compiled_outputs(annotated, data, isa, tmp_path)
    for output, expected in Session(model).run(data).items():
        np.testing.assert_array_equal(results[output], expected)
