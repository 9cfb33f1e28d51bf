"""The brackets and commas of a piece of JSON that lie outside its strings, found in whole arrays."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
QUOTE, COMMA, OPEN, CLOSE = 1, 2, 3, 4
_KINDS = np.zeros(256, dtype=np.uint8)
_KINDS[list(b'",[{]}')] = QUOTE, COMMA, OPEN, OPEN, CLOSE, CLOSE
STEPS = np.array([0, 0, 0, 1, -1], dtype=np.int64)


def structure(text: bytes, in_string: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], bool]:
    """Positions and kinds of the brackets and commas outside strings, and whether a string is open at the end."""
    if b"\\" in text:
        text = _ESCAPE.sub(b"__", text)
    kinds = _KINDS[np.frombuffer(text, dtype=np.uint8)]
    positions = np.flatnonzero(kinds)
    kinds = kinds[positions]
    quotes = kinds == QUOTE
    inside = (np.cumsum(quotes) + in_string) % 2 == 1
    still_in_string = bool(inside[-1]) if inside.size else in_string
    outside = ~(quotes | inside)
    return positions[outside], kinds[outside], still_in_string
