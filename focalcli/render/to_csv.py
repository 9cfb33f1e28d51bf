"""Rows as CSV on stdout: `AuditReport.to_rows()` and `ApTable.to_rows()`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any


def print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """One line per row under a header; None is an empty cell, metrics and shares stay in 0..1."""
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
