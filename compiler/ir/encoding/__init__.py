"""Encodings: compression as an annotation of values and uses, not as extra nodes.

What an encoding is (``kinds``), where it is attached (``annotations``), what it computes (``arithmetic``), constants
held as codes (``encoded_tensor``), what nodes are asked to compute in (``requests``), how files hold all of it
(``saving``, ``loading``), and whether it is sound (``checks``).
"""

from graphpress.ir.encoding.affine import AffineEncoding, dynamic_encoding
from graphpress.ir.encoding.annotations import (
    FLOAT,
    PREFIX,
    Override,
    annotations_of,
    clear_annotations,
    copy_annotations,
    encoding_of,
    hand_over_encoding,
    invalidate_encoding,
    invalidation_of,
    is_annotated,
    is_encoded,
    is_overridden,
    output_encoding,
    override_of,
    override_output,
    override_use,
    overrides_of,
    read_encoding,
    set_encoding,
)
from graphpress.ir.encoding.arithmetic import (
    decode_array,
    dequantize_array,
    encode_array,
    quantize_array,
    round_trip,
    to_grid,
)
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.codebook import CodebookEncoding, binary_encoding, ternary_encoding
from graphpress.ir.encoding.encoded_tensor import EncodedTensor, codes_of, set_codes
from graphpress.ir.encoding.grids import FLOAT8, bits_of, integer_bounds, integer_dtype
from graphpress.ir.encoding.kinds import Encoding, fits, static_affine
from graphpress.ir.encoding.requests import (
    FLOAT_TYPES,
    WEIGHT_ONLY,
    compute_request,
    compute_requests,
    float_type,
    request_compute,
    set_float_type,
)
from graphpress.ir.encoding.scales import holds_scale, representable, representable_like
from graphpress.ir.encoding.slicing import compress, sliced_encoding, sliced_tensor

__all__ = [
    "FLOAT",
    "FLOAT8",
    "FLOAT_TYPES",
    "PREFIX",
    "WEIGHT_ONLY",
    "AffineEncoding",
    "CastEncoding",
    "CodebookEncoding",
    "EncodedTensor",
    "Encoding",
    "Override",
    "annotations_of",
    "binary_encoding",
    "bits_of",
    "clear_annotations",
    "codes_of",
    "compress",
    "compute_request",
    "compute_requests",
    "copy_annotations",
    "decode_array",
    "dequantize_array",
    "dynamic_encoding",
    "encode_array",
    "encoding_of",
    "fits",
    "float_type",
    "hand_over_encoding",
    "holds_scale",
    "integer_bounds",
    "integer_dtype",
    "invalidate_encoding",
    "invalidation_of",
    "is_annotated",
    "is_encoded",
    "is_overridden",
    "output_encoding",
    "override_of",
    "override_output",
    "override_use",
    "overrides_of",
    "quantize_array",
    "read_encoding",
    "representable",
    "representable_like",
    "request_compute",
    "round_trip",
    "set_codes",
    "set_encoding",
    "set_float_type",
    "sliced_encoding",
    "sliced_tensor",
    "static_affine",
    "ternary_encoding",
    "to_grid",
]
