"""Labels that a detector disputes, as a table for people; json has all of them, with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation.suspects import KINDS, Suspect
from focalcli.render.console import Column, Plain, print_line, print_table
from focalcli.render.text import number, plural

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 20
MEANINGS = {
    "missed label": "a sure detection where nothing is labelled",
    "wrong class": "a sure detection of another class covers the object",
    "bad box": "a sure detection of the class has an IoU of 0.3 to 0.6 with the box",
    "unneeded": "nothing is detected there at any score, though such objects are",
}


def print_suspects(suspects: Sequence[Suspect], console: Console | Plain) -> None:
    """The most disputed labels, what the kinds mean, and how many there are."""
    if not suspects:
        print_line(console, "No label is disputed: nowhere is the detector sure of something else.")
        return
    print_line(console, ("Labels to look at first", "bold"))
    shown = suspects[:SHOWN]
    columns = [
        Column("kind", [row.kind for row in shown], left=True, style="bold"),
        Column("dispute", [f"{row.dispute:.2f}" for row in shown], rank=2),
        Column("image", [row.file_name for row in shown], left=True),
        Column(
            "annotation", ["-" if row.annotation_id is None else str(row.annotation_id) for row in shown], left=True
        ),
        Column("labelled", ["-" if row.name is None else row.name for row in shown], left=True),
        Column("detected", ["-" if row.found is None else row.found for row in shown], left=True),
        Column("score", [number(row.score, ".2f") for row in shown]),
        Column("IoU", [number(row.iou, ".2f") for row in shown], rank=1),
    ]
    met = dict.fromkeys(row.kind for row in shown)
    print_table(console, columns, "; ".join(f"{kind}: {MEANINGS[kind]}" for kind in KINDS if kind in met))
    counts = [f"{n:,} {kind}" for kind in KINDS if (n := sum(row.kind == kind for row in suspects))]
    hidden = f"; {SHOWN} are shown, --format json has all" if len(suspects) > SHOWN else ""
    print_line(console, f"{plural(len(suspects), 'disputed label')}: {', '.join(counts)}{hidden}")
