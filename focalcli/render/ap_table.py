"""Per-class AP as a table for people, x100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import COUNTED_FROM_SCORE, ApTable, ClassAp
from focalcli.render.console import LABEL, Column, Plain, print_line, print_table
from focalcli.render.text import number, percent, plural

if TYPE_CHECKING:
    from rich.console import Console


def print_ap(table: ApTable, console: Console | Plain, title: str = "") -> None:
    """Per-class AP in the table's order, their mean, and rare, common, frequent; `title` says of what."""
    if title:
        scored = f": {plural(table.n_images, 'image')}, {plural(table.n_objects, 'object')}"
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
        Column("AP", [*(_ap_cell(row) for row in rows), percent(mean["AP"])]),
    ]
    for name in ("AP50", "AP75", "APs", "APm", "APl", "AR100"):
        cells = [*(percent(getattr(row, name)) for row in rows), percent(mean[name])]
        columns.append(Column(name, cells, rank=0 if name in ("AP50", "AR100") else 1))
    caption = f"AP and AR x100, - is undefined; found: detections with a score of {COUNTED_FROM_SCORE} or more"
    print_table(console, columns, caption)
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


def _ap_cell(row: ClassAp) -> str:
    return percent(row.AP) if row.n_val else "n/a (0 objects)"


def _counts(values: Sequence[int | None]) -> list[str]:
    """The cells of a column of counts, and their sum."""
    known = [value for value in values if value is not None]
    return [*map(number, values), number(sum(known) if known else None)]
