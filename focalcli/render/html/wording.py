"""Numbers and names as the page says them: render/text.py's words, with a dash for the undefined and names that fit."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from focalcli.render import text

LONGEST_LABEL = 22  # characters of a class name beside a plot
UNDEFINED = "–"


def shown(value: object) -> str:
    """A text with what cannot be printed (control characters, text direction, lone surrogates) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def label(name: str, most: int = LONGEST_LABEL) -> str:
    """A name short enough to stand beside a plot; a wide character (CJK) counts as two."""
    clean, cells = shown(name), 0
    for end, character in enumerate(clean):
        cells += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if cells > most:
            return clean[: max(1, end - 1)] + "…"
    return clean


def count(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:,.0f}"


def brief(value: float) -> str:
    """A count in few characters: 950, 1.2k, 118M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.{0 if value >= 9.95 * size else 1}f}".removesuffix(".0") + unit
    return f"{value:,.0f}"


def decimal(value: float | None, digits: int = 1) -> str:
    return UNDEFINED if value is None else f"{value:,.{digits}f}"


def median(value: float | None) -> str:
    """Of counts: a half or a whole number."""
    return UNDEFINED if value is None else f"{value:,.1f}".removesuffix(".0")


def percent(share: float | None, digits: int = 1) -> str:
    """x100 without the sign; a share too small to show is not shown as none, nor one short of all as all."""
    if share is None:
        return UNDEFINED
    least = 10**-digits
    return f">{100 - least:g}" if 100 - least / 2 <= 100 * share < 100 else text.percent(share, digits)


def ratio(value: float | None) -> str:
    return UNDEFINED if value is None else text.ratio(value)


def p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def plural(n: int, noun: str, several: str = "") -> str:
    return f"{n:,} {several}" if several and n != 1 else text.plural(n, noun)


def listed(words: Sequence[str], most: int = 3) -> str:
    """ "a, b and c", or "a, b, c and 12 more"."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most:,} more"
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))
