"""The kinds of encodings, a sum type. Each kind has its file; what is done by kind is done in ``arithmetic``.

affine      real = (code − zero-point) · scale            without numbers: dynamic, the range is found at run time
codebook    real = table[code] · scale                    binary and ternary are its small cases
cast        real = code                                   in another float type
"""

from __future__ import annotations

from graphpress.ir.encoding.affine import AffineEncoding
from graphpress.ir.encoding.cast import CastEncoding
from graphpress.ir.encoding.codebook import CodebookEncoding

Encoding = AffineEncoding | CodebookEncoding | CastEncoding


def static_affine(encoding: Encoding | None) -> AffineEncoding | None:
    """The encoding if it is affine with known numbers, else None."""
    return encoding if isinstance(encoding, AffineEncoding) and not encoding.is_dynamic else None


def fits(encoding: Encoding, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape can be read in the encoding."""
    return encoding.fault is None and encoding.misfit(shape) is None
