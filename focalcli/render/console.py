"""Results as tables for people: rich in a terminal, plain text in a pipe.

Metrics and shares are x100 here, and every table that shows them says so. Nothing of a user's file is interpreted:
markup is off, and what cannot be printed (escape sequences, lone surrogates) is shown as an escape.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from focalcli.ap import COUNTED_FROM_SCORE, ApTable, ClassAp
from focalcli.audit import SEVERITIES, AuditReport, ClassRow, Finding, SplitReport
from focalcli.errors import FocalError
from focalcli.focal_loss import negative_share

PIPE_WIDTH = 200  # where there is no terminal to ask; a table that needs more gets it
TOP_ROWS, TAIL_ROWS = 14, 8  # classes of a long list that are shown; json has all
BAR_CELLS = 16
FOLD_WORDS = 28  # a terminal may wrap names and paths from this width on, rather than lose a column
GAP = 2
LABEL = 13  # screen cells of the words that stand before a paragraph
PRIOR = 0.01  # RetinaNet's first score, Lin et al. 2017, sec. 4.1
_LEGEND = (
    "positives: anchors, and their median per box; reached: boxes with an anchor of IoU >= 0.5; "
    "cells/side: median of box side / stride; level: where most positives are"
)
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def make_console(stderr: bool = False) -> Console:
    """A console for stdout or stderr: plain when that is no terminal or NO_COLOR is set, and then wide."""
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    plain = not terminal or bool(os.environ.get("NO_COLOR"))
    return Console(
        file=stream,
        color_system=None if plain else "auto",
        width=None if terminal else PIPE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_error(error: FocalError, console: Console | None = None) -> None:
    """`error:` and `hint:`, one line each, on stderr."""
    console = console or make_console(stderr=True)
    print_line(console, ("error: ", "bold red"), error.message)
    if error.hint:
        print_line(console, ("hint: ", "cyan"), error.hint)


def _safe(text: object, console: Console) -> str:
    """`text` as the console can show it: whatever is not printable, or not in its encoding, becomes an escape."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return shown.encode(console.encoding, "backslashreplace").decode(console.encoding)


def print_line(console: Console, *parts: str | tuple[str, str], indent: int = 0, label: str = "") -> None:
    """One line of text; a terminal wraps it below its own start, a pipe gets it whole.

    Args:
        parts: text, or (text, style). label: stands bold in the indent.
    """
    text = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        text.append(_safe(words, console), style)
    if console.is_terminal and indent:
        grid = Table.grid(padding=0)
        grid.add_column(width=indent, style="bold")
        grid.add_column(overflow="fold")
        grid.add_row(label, text)
        console.print(grid)
    else:
        whole = Text.assemble((label.ljust(indent), "bold"), text)
        console.print(whole, soft_wrap=not console.is_terminal)


def _unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _number(value: float | None, form: str = ",") -> str:
    return "-" if value is None else format(value, form)


def _percent(share: float | None, digits: int = 1) -> str:
    """x100; a share too small to show is not shown as none."""
    if share is None:
        return "-"
    least = 10**-digits
    return f"<{least:g}" if 0 < 100 * share < least / 2 else f"{100 * share:.{digits}f}"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}"


def _bar(share: float, console: Console) -> str:
    """A bar of BAR_CELLS cells for a share of 1; eighths of a cell where the terminal has blocks."""
    if not _unicode(console):
        return "#" * (round(share * BAR_CELLS) or int(share > 0))
    eighths = round(share * BAR_CELLS * 8) or int(share > 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


# --------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Column:
    """A column of a table; those with a `rank` are left out of a terminal that is too narrow, highest rank first."""

    title: str
    cells: Sequence[str]
    left: bool = False
    style: str = ""
    rank: int = 0


def print_table(console: Console, columns: Sequence[Column], caption: str = "") -> None:
    """A table that never cuts a cell: in a narrow terminal it leaves out whole columns and says which."""
    shown, dropped = list(columns), []
    while console.is_terminal and _least_width(shown) > console.width and any(column.rank for column in shown):
        dropped.append(max(shown, key=lambda column: column.rank))
        shown.remove(dropped[-1])
    if not console.is_terminal:  # a pipe is as wide as it has to be
        console.width = max(console.width, _least_width(shown, fold=sys.maxsize))
    console.print(_table(console, shown))
    left_out = f"left out of this narrow terminal: {', '.join(c.title or 'bar' for c in dropped)}" if dropped else ""
    if note := "; ".join(filter(None, (caption, left_out))):
        print_line(console, (note, "dim"))


def _least_width(columns: Sequence[Column], fold: int = FOLD_WORDS) -> int:
    """Screen cells that a table of these columns needs when text wraps at `fold`; GAP between two columns."""
    widest = [max(map(cell_len, (column.title, *column.cells))) for column in columns]
    foldable = [column.left and not column.rank for column in columns]  # rather none than half a path
    return sum(min(w, fold) if f else w for w, f in zip(widest, foldable, strict=True)) + GAP * len(columns)


def _table(console: Console, columns: Sequence[Column]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if _unicode(console) else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0) if _unicode(console) else (0, GAP, 0, 0),  # the box adds a cell between columns
        header_style="bold",
    )
    for column in columns:
        justify = "left" if column.left else "right"
        table.add_column(column.title, justify=justify, style=column.style, no_wrap=not column.left, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(_safe(cell, console) for cell in row))
    return table


def print_rows(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Flat records as a table of text; the columns are the keys of the first."""
    keys = list(rows[0]) if rows else []
    print_table(console, [Column(key, [str(row[key]) for row in rows], left=True) for key in keys])


def _fold(rows: Sequence[ClassRow], limit: int = TOP_ROWS + TAIL_ROWS) -> tuple[Sequence[ClassRow], Sequence[ClassRow]]:
    """The rows to show before and after the fold; none after it when all fit."""
    if len(rows) <= limit + 2:  # folding two rows saves nothing
        return rows, ()
    return rows[:TOP_ROWS], rows[-TAIL_ROWS:]


# ---------------------------------------------------------------------------------------------------------------- audit


def print_audit(report: AuditReport, console: Console) -> None:
    """The whole report: splits, classes, imbalance, anchors, findings."""
    train = report.split(report.reference)
    _print_splits(report, console)
    console.print()
    _print_classes(report, train, console)
    console.print()
    _print_imbalance(train, console)
    _print_anchors(report, train, console)
    console.print()
    _print_findings(report, console)


def _print_splits(report: AuditReport, console: Console) -> None:
    splits = report.splits
    print_table(
        console,
        [
            Column("split", [split.name for split in splits], left=True, style="bold"),
            Column("images", [_number(split.n_images) for split in splits]),
            Column("without objects", [_number(split.n_empty) for split in splits]),
            Column("objects", [_number(split.n_objects) for split in splits]),
            Column("most in one image", [_number(split.most_objects_in_an_image) for split in splits], rank=1),
            Column("crowd regions", [_number(split.n_crowds) for split in splits], rank=2),
            Column("classes", [f"{split.n_present:,} of {len(split.classes):,}" for split in splits]),
            Column("file", [str(split.path) for split in splits], left=True, style="dim", rank=3),
        ],
    )


def _print_classes(report: AuditReport, train: SplitReport, console: Console) -> None:
    rows = sorted((row for row in train.classes if row.instances), key=lambda row: -row.instances)
    top, tail = _fold(rows)
    folded = rows[len(top) : len(rows) - len(tail)]
    shown = [*top, *([None] if folded else []), *tail]
    others = [split for split in report.splits if split is not train]

    def cells(read: Callable[[ClassRow], str], fold: str = "") -> list[str]:
        return [fold if row is None else read(row) for row in shown]

    largest = max((row.share or 0 for row in rows), default=0) or 1
    columns = [
        Column("class", cells(lambda row: row.name, f"({len(folded):,} more)"), left=True, style="bold"),
        Column("images", cells(lambda row: _number(row.images)), rank=2),
        Column(train.name if others else "objects", cells(lambda row: _number(row.instances))),
        Column("share %", cells(lambda row: _percent(row.share))),
        Column("", cells(lambda row: _bar(row.share / largest, console)), left=True, style="cyan", rank=6),
    ]
    for rank, split in enumerate(others):
        counts = {row.name: row.instances for row in split.classes}
        title_and_cells = split.name, cells(lambda row, counts=counts: _number(counts.get(row.name)))
        columns.append(Column(*title_and_cells, rank=5 if rank else 0))  # one split to compare with always stays
    columns += [
        Column("group", cells(lambda row: row.group or "-"), left=True, rank=4),
        Column("positives", cells(lambda row: _number(row.anchors.positives)), rank=3),
        Column("per box", cells(lambda row: _number(row.anchors.positives_per_box, "g"))),
        Column("reached %", cells(lambda row: _percent(row.anchors.reached))),
        Column("cells/side", cells(lambda row: _number(row.anchors.cells_per_side, ".1f"))),
        Column("level", cells(lambda row: row.anchors.main_level or "-"), rank=1),
    ]
    print_table(console, columns, _LEGEND)
    if folded:
        span = f"{folded[0].instances:,} to {folded[-1].instances:,} objects each"
        print_line(console, (f"{_plural(len(folded), 'class')} of {span} folded; --format json has all", "dim"))
    if absent := len(train.classes) - train.n_present:
        print_line(console, (f"{_plural(absent, 'class')} without objects in {train.name} not shown", "dim"))


def _print_imbalance(train: SplitReport, console: Console) -> None:
    if train.head_tail is None:
        print_line(console, f"{train.name} has no objects", label="Imbalance", indent=LABEL)
        return
    text = (
        f"{_ratio(train.head_tail)}:1 head to tail, Gini {train.gini:.2f} (0 is even), "
        f"{_plural(train.n_present, 'class')}, as even as {train.effective_classes:.1f}"
    )
    groups = [(group, sum(row.group == group for row in train.classes)) for group in ("frequent", "common", "rare")]
    text += " (" + ", ".join(f"{n:,} {group}" for group, n in groups if n) + ")"
    print_line(console, text, label="Imbalance", indent=LABEL)


def _print_anchors(report: AuditReport, train: SplitReport, console: Console) -> None:
    anchors = train.anchors
    sizes = ", ".join(f"{size:g}" for size in report.spec.sizes)
    where = f"at {report.min_size} px with sizes {sizes}"
    if anchors.background_per_positive is None:
        print_line(console, f"no positive anchor {where}", label="Anchors", indent=LABEL)
        return
    n, background = anchors.positives, anchors.negatives
    even = negative_share(n, background, 0.5, alpha=0.5, gamma=0)
    prior, focused = (negative_share(n, background, PRIOR, alpha=0.5, gamma=gamma) for gamma in (0, 2))
    text = f"1 positive for every {_ratio(anchors.background_per_positive)} background anchors {where}"
    print_line(console, text, label="Anchors", indent=LABEL)
    print_line(
        console,
        f"the background carries {_loss_share(even)} of the first loss where every score is 0.5; "
        f"{_loss_share(prior)} at RetinaNet's prior of {PRIOR} with gamma 0, {_loss_share(focused)} with gamma 2 "
        "(alpha 0.5)",
        indent=LABEL,
    )
    if anchors.images_without_size:
        print_line(console, f"{_plural(anchors.images_without_size, 'image')} of unknown size left out", indent=LABEL)


def _loss_share(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def _print_findings(report: AuditReport, console: Console) -> None:
    if not report.findings:
        print_line(console, "none", label="Findings", indent=LABEL)
        return
    counts = [(level, sum(finding.severity == level for finding in report.findings)) for level in reversed(SEVERITIES)]
    summary = ", ".join(_plural(n, level) if level != "info" else f"{n} info" for level, n in counts if n)
    print_line(console, summary, label="Findings", indent=LABEL)
    for (code, severity), group in groupby(report.findings, key=lambda finding: (finding.code, finding.severity)):
        findings = list(group)
        explain = (f"  (focal explain {code})", "dim")
        print_line(
            console, (f"{severity} ", _STYLES[severity]), (f"{code} {findings[0].title}", "bold"), explain, indent=2
        )
        for finding in findings:
            print_line(console, (f"{finding.split}: ", "bold"), _place_and_message(finding), indent=4)
        for hint in dict.fromkeys(finding.hint for finding in findings):
            print_line(console, ("hint: ", "cyan"), hint, indent=4)


def _place_and_message(finding: Finding) -> str:
    """Records lead with the first place; classes are in the message, and a place is only an example."""
    image = f"image {finding.image_ids[0]}" if finding.image_ids else ""
    place = image
    if finding.annotation_ids:
        place = f"annotation {finding.annotation_ids[0]}" + (f" ({image})" if image else "")
    if finding.unit == "class":
        return finding.message + (f"; for example {place}" if place else "")
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    return (f"{place}{more}: " if place else "") + finding.message


# ------------------------------------------------------------------------------------------------------------------- AP


def print_ap(table: ApTable, console: Console, title: str = "") -> None:
    """Per-class AP in the table's order, their mean, and rare, common, frequent; `title` says of what."""
    if title:
        scored = f": {_plural(table.n_images, 'image')}, {_plural(table.n_objects, 'object')}"
        print_line(console, (title, "bold"), scored)
        console.print()
    rows = table.classes
    mean = {name: table.summary[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")}
    columns = [
        Column("class", [*(row.name for row in rows), "all (mean)"], left=True, style="bold"),
        Column("group", [*(row.group or "-" for row in rows), ""], left=True, rank=4),
        Column("n_train", _counts([row.n_train for row in rows]), rank=3),
        Column("n_val", _counts([row.n_val for row in rows])),
        Column("found", _counts([row.detections for row in rows]), rank=2),
        Column("AP", [*(_ap_cell(row) for row in rows), _percent(mean["AP"])]),
    ]
    for name in ("AP50", "AP75", "APs", "APm", "APl", "AR100"):
        cells = [*(_percent(getattr(row, name)) for row in rows), _percent(mean[name])]
        columns.append(Column(name, cells, rank=0 if name in ("AP50", "AR100") else 1))
    caption = f"AP and AR x100, - is undefined; found: detections with a score of {COUNTED_FROM_SCORE} or more"
    print_table(console, columns, caption)
    groups = [(name, table.summary[name]) for name in ("APr", "APc", "APf")]
    if any(value is not None for _, value in groups):
        text = ", ".join(f"{name} {_percent(value)}" for name, value in groups)
        cuts = "rare: 1-10 training images, common: 11-100, frequent: more"
        console.print()
        print_line(console, f"{text} ({cuts})", label="By group", indent=LABEL)
    if n := table.n_beyond_max_dets:
        print_line(
            console, f"{_plural(n, 'detection')} past the best 100 of an image and class: COCO does not count them"
        )


def _ap_cell(row: ClassAp) -> str:
    return _percent(row.AP) if row.n_val else "n/a (0 objects)"


def _counts(values: Sequence[int | None]) -> list[str]:
    """The cells of a column of counts, and their sum."""
    known = [value for value in values if value is not None]
    return [*map(_number, values), _number(sum(known) if known else None)]
