"""Rows as CSV: `AuditReport.to_rows()`, `ApTable.to_rows()` and the like."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from focalcli.render.text import printable


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """One line per row under a header; None is an empty cell, metrics and shares stay in 0..1.

    A spreadsheet runs a cell that starts with = + - or @ as a formula (see
    https://owasp.org/www-community/attacks/CSV_Injection), and GitHub's runner a line that starts with ::, so text that
    starts so, and is no number, gets an apostrophe before it; what is not printable becomes an escape. JSON has the
    name as it is.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "::")) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
