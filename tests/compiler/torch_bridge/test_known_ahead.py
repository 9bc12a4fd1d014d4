"""What is constant is looked at ahead: the results are those of the same operands at run time.

The models are those of the ONNX backend node test-suite with one node, all operands but the first as constants: once
they train, where they can, and once none does.
"""

import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.numpy_helper import from_array

from graphpress.ir import from_proto
from graphpress.torch_bridge import BridgeError

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.torch_bridge.ops import TRANSLATIONS
from graphpress.torch_bridge.tensors import to_tensor

RANDOM = ("Bernoulli", "Multinomial")


@cache
def cases():
    """Cases of one node with several operands, all of them arrays that torch has a type for, by operator."""
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    by_operator = defaultdict(list)
    for case in collected:
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        node, inputs = case.model.graph.node[0], case.data_sets[0][0]
        if (
            node.op_type in TRANSLATIONS.rules
            and node.op_type not in RANDOM
            and len(inputs) > 1
            and all(map(_plain, inputs))
        ):
            by_operator[node.op_type].append(case)
    return by_operator


def _plain(array):
    return isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "biufc"


def with_constants(case):
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    proto.ir_version = max(proto.ir_version, 8)
    inputs = list(proto.graph.input)
    del proto.graph.input[1:]
    for info, array in list(zip(inputs, case.data_sets[0][0], strict=True))[1:]:
        proto.graph.initializer.append(from_array(np.asarray(array), info.name))
    return proto


@pytest.mark.parametrize("operator", sorted(cases()))
def test_constant_operands_give_what_operands_at_run_time_do(bridge, operator):
    checked = 0
    for case in cases()[operator]:
        names = [info.name for info in case.model.graph.input]
        feed = {name: to_tensor(np.asarray(array)) for name, array in zip(names, case.data_sets[0][0], strict=True)}
        try:
            wanted = bridge.to_module(from_proto(case.model)).module(feed)
        except BridgeError:
            continue
        for trainable in (lambda value: True, lambda value: False):
            module = bridge.to_module(from_proto(with_constants(case)), trainable=trainable).module
            got = module({names[0]: feed[names[0]]})
            for name, expected in wanted.items():
                torch.testing.assert_close(
                    got[name].detach(), expected, rtol=1e-5, atol=1e-6, equal_nan=True, msg=case.name
                )
        checked += 1
    assert checked
