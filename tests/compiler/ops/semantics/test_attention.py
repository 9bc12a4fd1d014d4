"""Attributes of attention."""

import pytest

from graphpress.ir import DataType
from graphpress.ops.semantics.attention import AttentionAttributes


def test_what_is_left_out_restricts_nothing(node):
    plain = AttentionAttributes.of(node("Attention"))
    assert (plain.scale, plain.softcap, plain.precision, plain.shown) == (None, 0.0, None, 0)
    assert (plain.causal, plain.behind, plain.ahead, plain.windowed) == (False, -1, -1, False)


@pytest.mark.parametrize(
    ("given", "behind", "ahead", "windowed"),
    [
        ({"is_causal": 1}, -1, 0, False),
        ({"is_causal": 1, "left_window_size": 3}, 3, 0, True),
        ({"right_window_size": 2}, -1, 2, True),
        ({"right_window_size": 2, "is_causal": 1}, -1, 0, False),
    ],
)
def test_a_causal_mask_sees_nothing_ahead(node, given, behind, ahead, windowed):
    attributes = AttentionAttributes.of(node("Attention", **given))
    assert (attributes.behind, attributes.ahead, attributes.windowed) == (behind, ahead, windowed)


def test_heads_scale_and_precision_are_those_of_the_node(node):
    given = {"q_num_heads": 8, "kv_num_heads": 2, "scale": 0.5, "softmax_precision": 1}
    attributes = AttentionAttributes.of(node("Attention", **given))
    assert (attributes.query_heads, attributes.key_heads, attributes.scale) == (8, 2, 0.5)
    assert attributes.precision is DataType.FLOAT
