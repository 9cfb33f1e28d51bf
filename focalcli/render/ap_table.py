"""Per-class AP as a table for people, x100, with how sure it is and what the detector does at its best threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import COUNTED_FROM_SCORE, FEW_OBJECTS, ApTable, ClassAp
from focalcli.render.console import LABEL, Column, Plain, print_line, print_table
from focalcli.render.text import number, percent, plural

if TYPE_CHECKING:
    from rich.console import Console


def print_ap(table: ApTable, console: Console | Plain, title: str = "", shown: Sequence[ClassAp] | None = None) -> None:
    """Per-class AP in the table's order, the mean over all classes, and rare, common, frequent.

    Args:
        title: what was scored on what. shown: only these classes; the last row stays that of all.
    """
    rows = table.classes if shown is None else shown
    if title:
        scored = f": {plural(table.n_images, 'image')}, {plural(table.n_objects, 'object')}"
        print_line(console, (title, "bold"), scored)
        console.print()
    caption = "AP, AR, precision, recall and F1 x100, - is undefined"
    if any(map(_is_marked, rows)):
        caption += f"; *: fewer than {FEW_OBJECTS} objects, too few for the AP to say much"
    print_table(console, _columns(table, rows), caption)
    groups = [(name, table.summary[name]) for name in ("APr", "APc", "APf")]
    if any(value is not None for _, value in groups):
        text = ", ".join(f"{name} {percent(value)}" for name, value in groups)
        cuts = "rare: 1-10 training images, common: 11-100, frequent: more"
        console.print()
        print_line(console, f"{text} ({cuts})", label="By group", indent=LABEL)
    if n := table.n_beyond_max_dets:
        print_line(
            console, f"{plural(n, 'detection')} past the best 100 of an image and class: COCO does not count them"
        )


def _columns(table: ApTable, rows: Sequence[ClassAp]) -> list[Column]:
    """What a narrow terminal leaves out first has the highest rank."""

    def metric(name: str, rank: int) -> Column:
        return Column(name, [*(percent(getattr(row, name)) for row in rows), percent(table.summary[name])], rank=rank)

    def at_threshold(name: str, rank: int, show: Callable[[float | None], str], note: str = "") -> Column:
        return Column(name, [*(show(getattr(row, name)) for row in rows), ""], rank=rank, note=note)

    known = [row.n_train for row in table.classes if row.n_train is not None]
    columns = [
        Column("class", [*(row.name for row in rows), "all (mean)"], left=True, style="bold"),
        Column("group", [*(row.group or "-" for row in rows), ""], left=True, rank=11),
        Column("n_train", [*(number(row.n_train) for row in rows), number(sum(known) if known else None)], rank=8),
        Column("n_val", [*map(_objects, rows), number(table.n_objects)]),
        Column(
            "found",
            [*(number(row.detections) for row in rows), number(sum(row.detections for row in table.classes))],
            rank=9,
            note=f"found: detections with a score of {COUNTED_FROM_SCORE} or more",
        ),
        Column(
            "AP", [*(percent(row.AP) if row.n_val else "n/a (0 objects)" for row in rows), percent(table.summary["AP"])]
        ),
        metric("AP50", 0),
    ]
    if table.rounds:
        ends = [*((row.AP50_low, row.AP50_high) for row in rows), table.intervals["AP50"] or (None, None)]
        note = f"interval: of AP50, 95 %, by {plural(table.rounds, 'draw')} of the images"
        columns.append(Column("interval", [_interval(*pair) for pair in ends], rank=1, note=note))
    at_best_f1 = "threshold: score of the best F1 at IoU 0.5 on these images; precision, recall and F1 are those at it"
    return [
        *columns,
        metric("AP75", 6),
        *(metric(name, 10) for name in ("APs", "APm", "APl")),
        metric("AR100", 7),
        at_threshold("threshold", 4, lambda value: number(value, ".3f")),
        at_threshold("precision", 3, percent),
        at_threshold("recall", 2, percent, at_best_f1),
        at_threshold("F1", 5, percent),
    ]


def _is_marked(row: ClassAp) -> bool:
    return row.n_val > 0 and row.has_few_objects  # n/a says it all of a class without any


def _objects(row: ClassAp) -> str:
    return ("*" if _is_marked(row) else "") + number(row.n_val)


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{100 * low:.1f}-{100 * high:.1f}"
