"""Directions and activations of recurrent layers."""

import math

import pytest

from graphpress.ops.semantics import InvalidAttributeError
from graphpress.ops.semantics.recurrent import RecurrentActivation, activations_of, reads_backwards


def plain(name):
    return RecurrentActivation(name, None, None, math.inf)


def test_activations_have_defaults(node):
    assert activations_of(node("GRU")) == ((plain("sigmoid"), plain("tanh")),)
    assert len(activations_of(node("LSTM", direction="bidirectional"))) == 2


def test_each_direction_reads_one_way(node):
    assert reads_backwards(node("RNN")) == (False,)
    assert reads_backwards(node("RNN", direction="bidirectional")) == (False, True)


def test_numbers_are_taken_in_turn_by_those_that_have_any(node):
    given = {"activations": ["Elu", "Affine"], "activation_alpha": [0.5, 3.0]}
    assert activations_of(node("RNN", direction="bidirectional", **given)) == (
        (RecurrentActivation("elu", 0.5, None, math.inf),),
        (RecurrentActivation("affine", 3.0, 0.0, math.inf),),
    )


def test_the_cell_is_not_clipped(node):
    (activations,) = activations_of(node("LSTM", clip=2.0))
    assert [activation.clip for activation in activations] == [2.0, 2.0, math.inf]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "sideways"}, "unknown direction 'sideways'"),
        ({"activations": ["Swoosh"]}, "unknown activation 'Swoosh'"),
    ],
)
def test_what_onnx_does_not_define_is_an_error(node, given, message):
    with pytest.raises(InvalidAttributeError, match=message):
        activations_of(node("RNN", **given))
