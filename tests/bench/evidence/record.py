"""The CSV of the evidence: one row a run, written whole, of one protocol."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "runs.csv"
PROTOCOL = 1  # counted up when anything changes that decides a run's figures: rows of another protocol do not count
SETTINGS = ("alpha", "gamma", "prior", "box_weight", "repeat_threshold")
FIELDS = (
    "protocol", "dataset", "arm", "seed", *SETTINGS, "steps", "cpu_seconds", "AP", "AP50", "rare_AP", "rare_AP50",
    "worst_AP", "worst_AP50", "ECE", "diverged", "classes", "commit", "machine", "when",
)  # fmt: skip

Row = dict[str, str]


def settings_of(loss: Any) -> Row:
    """What decides a run besides its dataset and seed, as the CSV has it; a prior of None is `natural`."""

    def text(value: Any) -> str:
        return " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:g}"

    return {
        "alpha": text(loss.alpha),
        "gamma": text(loss.gamma),
        "prior": "natural" if loss.prior is None else text(loss.prior),
        "box_weight": "balanced" if loss.box_weight is None else text(loss.box_weight),
        "repeat_threshold": text(loss.repeat_threshold),
    }


def rows(path: Path = RESULTS) -> list[Row]:
    """The whole rows of this protocol; of a run that was repeated, the last one."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        mine = [row for row in csv.DictReader(file) if row["protocol"] == str(PROTOCOL) and row["when"]]
    return list({(row["dataset"], row["arm"], row["seed"]): row for row in mine}.values())


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one row in a single write. What a kill left of another is closed by a line break, and `rows` passes it by."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.is_file() else b""
    start = "" if before.endswith(b"\n") else "\n" if before else ",".join(FIELDS) + "\n"
    values = {**row, "protocol": PROTOCOL}
    cells = ["" if values.get(field) is None else str(values[field]) for field in FIELDS]
    quoted = ['"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n') else cell for cell in cells]
    with path.open("ab", buffering=0) as file:
        file.write((start + ",".join(quoted) + "\n").encode())
        os.fsync(file.fileno())
