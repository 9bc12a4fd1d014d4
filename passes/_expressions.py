"""Regular expressions that users give a pass, to name layers."""

from __future__ import annotations

import re

from graphpress.errors import UsageError


def regular_expression(text: str, where: str) -> re.Pattern[str]:
    """The compiled expression.

    Args:
        text: of it.
        where: the field, for the error.

    Raises:
        UsageError: it is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(
            f"{error.pattern!r} is no regular expression ({error.msg})",
            where=where,
            fix="escape special characters, and quote the expression",
        ) from error
