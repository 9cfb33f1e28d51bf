"""Words and numbers as every format shows them; nothing of a user's file passes here uncleaned.

Metrics and shares are x100 where `percent` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from focalcli.audit import SEVERITIES, AuditReport, ClassRow, Finding

TOP_ROWS, TAIL_ROWS = 14, 8  # classes of a long list that are shown; json and csv have all


def printable(text: object) -> str:
    """`text` with an escape in place of whatever is not printable: control characters, lone surrogates, line breaks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def visible(text: object) -> str:
    """As `printable`, for where a CI service reads along: a class name in a job's log must not give orders.

    What GitHub's runner would take for a command (a line that starts with `::`, or `##[` anywhere) loses its first
    character to an escape.
    """
    shown = printable(text)
    if shown.lstrip().startswith("::"):
        shown = shown.replace(":", "\\x3a", 1)
    return shown.replace("##[", "\\x23#[")


def number(value: float | None, form: str = ",") -> str:
    return "-" if value is None else format(value, form)


def percent(share: float | None, digits: int = 1) -> str:
    """x100; a share too small to show is not shown as none."""
    if share is None:
        return "-"
    least = 10**-digits
    return f"<{least:g}" if 0 < 100 * share < least / 2 else f"{100 * share:.{digits}f}"


def ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}"


def fold(rows: Sequence[ClassRow]) -> tuple[Sequence[ClassRow], Sequence[ClassRow], Sequence[ClassRow]]:
    """The rows to show, those that are folded away, and the rows to show after them."""
    if len(rows) <= TOP_ROWS + TAIL_ROWS + 2:  # folding two rows saves nothing
        return rows, (), ()
    return rows[:TOP_ROWS], rows[TOP_ROWS:-TAIL_ROWS], rows[-TAIL_ROWS:]


def finding_counts(report: AuditReport) -> str:
    """For example "2 errors, 1 warning, 3 info"; "none" without findings."""
    counts = [(level, sum(finding.severity == level for finding in report.findings)) for level in reversed(SEVERITIES)]
    return ", ".join(f"{n} info" if level == "info" else plural(n, level) for level, n in counts if n) or "none"


def place_and_message(finding: Finding) -> str:
    """Records lead with the first place; classes are in the message, and a place is only an example."""
    image = f"image {finding.image_ids[0]}" if finding.image_ids else ""
    place = image
    if finding.annotation_ids:
        place = f"annotation {finding.annotation_ids[0]}" + (f" ({image})" if image else "")
    if finding.unit == "class":
        return finding.message + (f"; for example {place}" if place else "")
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    return (f"{place}{more}: " if place else "") + finding.message
