"""The sparsity annotation: read back, checked, dropped when the weight is edited."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpress.errors import ModelError, UsageError
from graphpress.ir import Editor, clone, from_proto, to_proto
from graphpress.ir.sparsity import (
    SPARSITY_KEY,
    Sparsity,
    block_of,
    fault_of,
    mask_of,
    set_sparsity,
    sparsity_of,
    sparsity_problems,
    used_in_blocks,
)
from graphpress.models import build


@pytest.fixture
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


@pytest.fixture
def weight(network):
    return next(node for node in network.graph if node.op_type == "Conv").inputs[1]


HALF = Sparsity("unstructured", 1, 0.5)


def halved(value):
    array = value.const_value.numpy().copy()
    array.reshape(-1)[::2] = 0
    return array


def test_it_survives_cloning_and_serializing(network, weight):
    Editor(network).set_constant(weight, halved(weight))
    set_sparsity(weight, HALF)
    for copy in (clone(network), from_proto(to_proto(network))):
        assert sparsity_of(copy.graph.initializers[weight.name]) == HALF
        assert not sparsity_problems(copy)


def test_editing_the_weight_drops_it(network, weight):
    set_sparsity(weight, HALF)
    Editor(network).set_constant(weight, weight.const_value.numpy())
    assert sparsity_of(weight) is None
    assert mask_of(weight) is None


def test_the_mask_is_where_it_is_not_zero(network, weight):
    array = halved(weight)
    Editor(network).set_constant(weight, array)
    set_sparsity(weight, HALF)
    np.testing.assert_array_equal(mask_of(weight), array != 0)


def test_a_claim_that_does_not_hold_is_found(network, weight):
    set_sparsity(weight, HALF)
    assert "is zero, not 50.0%" in sparsity_problems(network)[0]


@given(st.integers(1, 12), st.integers(0, 2**16))
def test_blocks_are_counted_one_by_one(length, seed):
    array = np.random.default_rng(seed).integers(0, 2, (3, length, 2))
    counts = used_in_blocks(array, 1, 4)
    for place, start in enumerate(range(0, length, 4)):
        np.testing.assert_array_equal(counts[..., place], np.count_nonzero(array[:, start : start + 4], axis=1))


def test_n_of_m():
    array = np.array([[1, 0, 2, 0, 3, 4, 5, 0]])
    assert fault_of(array, Sparsity("3:4", 1, 0.3)) is None
    assert "3 of 4 consecutive" in fault_of(array, Sparsity("2:4", 1, 0.3))
    assert fault_of(array, Sparsity("2:4", 0, 0.3)) is None
    assert "no axis" in fault_of(array, Sparsity("2:4", 2, 0.0))


@pytest.mark.parametrize("pattern", ["4:4", "5:4", "0:4", "2/4", "", "half"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(UsageError, match="pattern"):
        block_of(pattern)


def test_an_unreadable_annotation_is_an_error(weight):
    weight.metadata_props[SPARSITY_KEY] = '{"rank": 3}'
    with pytest.raises(ModelError, match="unreadable sparsity"):
        sparsity_of(weight)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no JSON"),
        ("[1]", "it is no JSON object"),
        ("3.5", "it is no JSON object"),
        ('{"axis":0,"zeros":0.5}', "it has no pattern"),
        ('{"pattern":"2:4","axis":0,"zeros":0.5,"kind":"x"}', "it has the unknown field 'kind'"),
        ('{"pattern":"2:4","axis":"0","zeros":0.5}', "pattern, axis or zeros are of another type"),
    ],
)
def test_it_says_in_plain_words_what_is_unreadable(weight, text, why):
    weight.metadata_props[SPARSITY_KEY] = text
    with pytest.raises(ModelError) as raised:
        sparsity_of(weight)
    assert raised.value.what.endswith(f"({why})")
    assert "start from the original model" in raised.value.fix
