"""Linear operators with a constant weight: one view of Conv, ConvTranspose, Gemm and MatMul, and how to change them.

``op`` reads (weights as matrices and as kernels), ``rows`` does the same for the data (im2col), ``scaling`` moves
scales and shifts of channels into constants, ``update`` and ``bias`` write constants back, and ``requantize`` keeps
encodings valid.
"""

from graphpress.analysis.linear.bias import constant_operand, write_bias
from graphpress.analysis.linear.op import LinearOp, channels_of, linear_op_of, linear_ops_of
from graphpress.analysis.linear.parameters import ChannelAffine, LinearParameters
from graphpress.analysis.linear.requantize import accumulator_encoding, as_read, refit
from graphpress.analysis.linear.scaling import scale_inputs, scale_outputs
from graphpress.analysis.linear.update import LinearUpdate, changeable_linear_op, parameters_of, updated

__all__ = [
    "ChannelAffine",
    "LinearOp",
    "LinearParameters",
    "LinearUpdate",
    "accumulator_encoding",
    "as_read",
    "changeable_linear_op",
    "channels_of",
    "constant_operand",
    "linear_op_of",
    "linear_ops_of",
    "parameters_of",
    "refit",
    "scale_inputs",
    "scale_outputs",
    "updated",
    "write_bias",
]
