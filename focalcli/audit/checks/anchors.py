"""What the anchors of the training split do to its classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from focalcli.anchors import FOREGROUND_IOU, LEVELS
from focalcli.audit.assignment import Assignment
from focalcli.audit.checks.finding import few, make, percent
from focalcli.audit.report import PLACES, ClassRow, Finding, SplitReport
from focalcli.coco import Dataset, Floats

MISSED_SHARE = 0.1  # of a class's boxes
ORPHAN_SHARE, ORPHANS = 0.05, 3
COARSE_SHARE, COARSE_CELLS, STARVED_SHARE = 0.25, 2.5, 0.1


def of_anchors(report: SplitReport, dataset: Dataset, assigned: Assignment) -> Iterator[Finding]:
    """What the anchors of the training split do to its classes. assigned: of the dataset."""
    yield from _anchors_miss_boxes(report, dataset, assigned.best_iou)
    yield from _level_too_coarse(report)
    yield from _pictures_without_positive(report, dataset, assigned)
    yield from _boxes_without_anchor(report, dataset, assigned)


def _anchors_miss_boxes(report: SplitReport, dataset: Dataset, best_iou: Floats) -> Iterator[Finding]:
    missed = [row for row in report.classes if row.anchors.boxes and 1 - row.anchors.reached > MISSED_SHARE]
    if not missed:
        return
    missed.sort(key=lambda row: -row.anchors.boxes * (1 - row.anchors.reached))  # the most boxes, not the rarest class
    words = [
        f"{row.name!r} {percent(1 - row.anchors.reached)} of {row.anchors.boxes:,} box{'es' * (row.anchors.boxes > 1)}"
        for row in missed
    ]
    rows = np.flatnonzero((best_iou < FOREGROUND_IOU) & (dataset.box_label == report.classes.index(missed[0])))
    yield make(
        "F401",
        report.name,
        f"no anchor with IoU >= 0.5 for {few(words)}",
        count=len(missed),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
    )


def _level_too_coarse(report: SplitReport) -> Iterator[Finding]:
    held = report.anchors.levels
    coarse = [(row, level) for row in report.classes for level in _coarse_levels(row, held)]
    if coarse:
        words = [
            f"{row.name!r} has {percent(row.anchors.levels[level])} of its positives on {LEVELS[level]}, where it "
            f"spans {row.anchors.cells[level]:.1f} cells a side and {percent(held[level])} of all positives lie"
            for row, level in coarse
        ]
        yield make("F402", report.name, few(words, 2), count=len(coarse))


def _coarse_levels(row: ClassRow, all_levels: Sequence[float | None]) -> list[int]:
    """The starved levels that the class depends on."""
    columns = zip(row.anchors.levels, row.anchors.cells, all_levels, strict=True)
    return [
        level
        for level, (share, cells, held) in enumerate(columns)
        if share is not None and share >= COARSE_SHARE and cells < COARSE_CELLS and held < STARVED_SHARE
    ]


def _pictures_without_positive(report: SplitReport, dataset: Dataset, assigned: Assignment) -> Iterator[Finding]:
    counted = np.isfinite(assigned.best_iou)
    n = len(dataset.image_ids)
    objects = np.bincount(dataset.box_image[counted], minlength=n)
    positives = np.bincount(dataset.box_image, weights=assigned.positives, minlength=n)
    images = np.flatnonzero((objects > 0) & (positives == 0))
    if images.size:
        message = f"no anchor touches any object ({objects[images].sum():,} in all)"
        ids = [dataset.image_ids[index] for index in images[:PLACES]]
        yield make("F403", report.name, message, count=len(images), image_ids=ids)


def _boxes_without_anchor(report: SplitReport, dataset: Dataset, assigned: Assignment) -> Iterator[Finding]:
    orphaned = [
        row for row in report.classes if row.anchors.unreached >= max(ORPHANS, ORPHAN_SHARE * row.anchors.boxes)
    ]
    if not orphaned:
        return
    orphaned.sort(key=lambda row: -row.anchors.unreached)
    words = [
        f"{row.name!r} {percent(row.anchors.unreached / row.anchors.boxes)} of {row.anchors.boxes:,} "
        f"box{'es' * (row.anchors.boxes > 1)}"
        for row in orphaned
    ]
    worst = dataset.box_label == report.classes.index(orphaned[0])
    rows = np.flatnonzero(np.isfinite(assigned.best_iou) & (assigned.positives == 0) & worst)
    yield make(
        "F404",
        report.name,
        f"no positive anchor for {few(words)}",
        count=len(orphaned),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
    )
