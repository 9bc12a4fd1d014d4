"""Rows that are looked up in integers, against the table that is decoded first."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress.backends.onnxruntime.look_up_codes import look_up_codes
from graphpress.ir import clone, from_proto, verify
from graphpress.runtime import Session

RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(-127, 128, (6, 4, 5), dtype=np.int8)
IDS = np.array([[3, 0], [1, -1], [2, 2]])


def model_of(gather_axis, scale_axis, zero=0, extra=""):
    count = 1 if scale_axis is None else CODES.shape[scale_axis]
    scale = np.geomspace(0.01, 1, count).astype(np.float32).reshape(() if scale_axis is None else -1)
    proto = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
    g (int64[3,2] ids) => (float y{extra}) {{
        d = DequantizeLinear <axis={scale_axis or 0}> (codes, scale, zero)
        g = Gather <axis={gather_axis}> (d, ids)
        y = Neg (g)
    }}""")
    arrays = {"codes": CODES, "scale": scale, "zero": np.full(scale.shape, zero, np.int8)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return from_proto(proto)


def run(model):
    return Session(model).run({"ids": IDS})["y"]


@pytest.mark.parametrize(
    ("gather_axis", "scale_axis"), [(0, None), (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (-1, None)]
)
def test_the_same_numbers_bit_for_bit(gather_axis, scale_axis):
    before = model_of(gather_axis, scale_axis)
    after = clone(before)
    assert look_up_codes(after) == 1
    verify(after)
    assert all(node.op_type != "DequantizeLinear" for node in after.graph)
    np.testing.assert_array_equal(run(after), run(before))
    assert look_up_codes(after) == 0


@pytest.mark.parametrize(("gather_axis", "scale_axis", "zero"), [(1, 0, 0), (0, 0, 3)])
def test_what_it_has_no_words_for_is_decoded_first(gather_axis, scale_axis, zero):
    assert look_up_codes(model_of(gather_axis, scale_axis, zero)) == 0


def test_others_still_read_the_decoded_table():
    model = model_of(0, 0, extra=", float[6,4,5] d")
    assert look_up_codes(model) == 1
    assert [node.op_type for node in model.graph].count("DequantizeLinear") == 1
    verify(model)
