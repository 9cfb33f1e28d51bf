"""The class table of the audit page: plain values, named as the template uses them. Shares are fractions in 0..1."""

from __future__ import annotations

from dataclasses import dataclass

from focalcli.audit import AuditReport, ClassRow, SplitReport

HEADERS = {  # what the table's headers say when one rests on them
    "images": "training pictures that hold the class",
    "share": "of the training objects, x100",
    "group": "rare: 1 to 10 training pictures, common: 11 to 100, frequent: more (LVIS)",
    "effective": "effective number of samples, (1 - 0.999^n) / (1 - 0.999) for n objects (Cui et al. 2019)",
    "small": "objects below 32 x 32 px at network size, x100",
    "medium": "objects between 32 x 32 and 96 x 96 px at network size, x100",
    "large": "objects above 96 x 96 px at network size, x100",
    "positives": "anchors that match an object of the class",
    "per box": "positives of a box, median",
    "reached": "boxes that overlap some anchor with an IoU of 0.5 or more, x100",
}


@dataclass(frozen=True)
class ClassLine:
    """One class.

    Attributes:
        row: of training. others: its objects in each other split, None where that lacks the category.
        bar: its objects over those of the most frequent class.
        sizes: shares of its boxes that are small, medium, large at network size; None without boxes.
    """

    row: ClassRow
    others: tuple[int | None, ...]
    bar: float
    sizes: tuple[float | None, ...]


def class_lines(report: AuditReport, train: SplitReport) -> list[ClassLine]:
    """Every class of training that has an object in some split, the most frequent first."""
    others = [{row.name: row.instances for row in split.classes} for split in report.splits if split is not train]
    largest = max((row.instances for row in train.classes), default=0)
    lines = []
    for row in sorted(train.classes, key=lambda row: -row.instances):
        counts = tuple(split.get(row.name) for split in others)
        if row.instances or any(counts):
            boxes = sum(row.scale.at_network)
            sizes = tuple(n / boxes if boxes else None for n in row.scale.at_network)
            lines.append(ClassLine(row, counts, row.instances / largest if largest else 0.0, sizes))
    return lines
