"""Why each class has the AP that it has: errors, confusion, precision along recall, sizes and company, calibration.

Shapes: B boxes, N ranked detections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from focalcli.coco import Bools, Dataset, Id
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.evaluation.accumulate import AREA_RANGES
from focalcli.evaluation.calibration import Calibration, calibration
from focalcli.evaluation.confusion import Confusion, confusion
from focalcli.evaluation.curves import PrCurve, operating_point, pr_curve
from focalcli.evaluation.errors import Errors, find_errors
from focalcli.evaluation.matching import IOU_THRESHOLDS, Ranked, choose, outcome, overlaps, queue, rank

CROWDED_IOU = 0.1  # with another object of any class: from here on their detections compete in suppression
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Share:
    """Objects of a kind, and how many of them a detection at the operating point or above finds at IoU 0.5."""

    objects: int
    found: int


@dataclass(frozen=True)
class ClassBreakdown:
    """One class: its objects by COCO's sizes, and by whether another object overlaps them by CROWDED_IOU or more."""

    name: str
    category_id: Id
    sizes: dict[str, Share]
    alone: Share
    crowded: Share


@dataclass(frozen=True)
class Diagnosis:
    """Everything but the AP itself.

    Attributes:
        curves: of the classes that have objects. calibration: None where scores are not in 0..1, and `uncalibrated`
            then says why.
    """

    errors: Errors
    confusion: Confusion
    curves: tuple[PrCurve, ...]
    breakdown: tuple[ClassBreakdown, ...]
    calibration: Calibration | None
    uncalibrated: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema_version": 1,
            "kind": "diagnosis",
            "errors": self.errors.to_dict(),
            "confusion": self.confusion.to_dict(),
            "curves": [curve.to_dict() for curve in self.curves],
            "crowded_iou": CROWDED_IOU,
            "breakdown": [asdict(entry) for entry in self.breakdown],
            "calibration": self.calibration and self.calibration.to_dict(),
            "uncalibrated": self.uncalibrated,
        }


def diagnose(dataset: Dataset, detections: Detections, labels: Iterable[int] | None = None) -> Diagnosis:
    """Of detections that `evaluate` has taken.

    Args:
        labels: look only at these indices into dataset.categories.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    ranked = rank(dataset, detections, chosen)
    pairs = overlaps(ranked, dataset, float(IOU_THRESHOLDS[0]))
    at_half = outcome(ranked, choose(queue(ranked, pairs), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1]))
    curves, thresholds, found = [], [], np.zeros(len(dataset.boxes), dtype=np.bool_)
    for label in chosen:
        rows = np.arange(ranked.starts[label], ranked.starts[label + 1])
        rows = rows[~at_half.ignored[rows]]
        objects = int(dataset.objects_per_class[label])
        point = operating_point(ranked.scores[rows], at_half.hit[rows], objects)
        thresholds.append(point and point.threshold)
        if objects:
            category = dataset.categories[label]
            curves.append(pr_curve(category.name, category.id, ranked.scores[rows], at_half.hit[rows], objects))
        if point:
            kept = rows[at_half.hit[rows] & (ranked.scores[rows] >= point.threshold)]
            found[at_half.truth[kept]] = True
    try:
        measured, reason = calibration(dataset, detections, chosen), None
    except FocalError as error:
        measured, reason = None, f"{error.message}; {error.hint}"
    return Diagnosis(
        errors=find_errors(dataset, detections, chosen),
        confusion=confusion(dataset, detections, chosen, thresholds),
        curves=tuple(curves),
        breakdown=_breakdown(dataset, chosen, found),
        calibration=measured,
        uncalibrated=reason,
    )


def _breakdown(dataset: Dataset, labels: list[int], found: Bools) -> tuple[ClassBreakdown, ...]:
    crowded = _crowded(dataset)
    ranges = dict(zip(SIZES, AREA_RANGES[1:], strict=True))
    result = []
    for label in labels:
        own = ~dataset.iscrowd & (dataset.box_label == label)
        sizes = {}
        for number, (name, (low, high)) in enumerate(ranges.items()):
            # COCO counts an area on a cut in both ranges; here each object is counted once, as the smaller
            above = dataset.area > low if number else dataset.area >= low
            sizes[name] = _share(own & above & (dataset.area <= high), found)
        category = dataset.categories[label]
        result.append(
            ClassBreakdown(
                category.name, category.id, sizes, _share(own & ~crowded, found), _share(own & crowded, found)
            )
        )
    return tuple(result)


def _share(kind: Bools, found: Bools) -> Share:
    return Share(int(np.count_nonzero(kind)), int(np.count_nonzero(kind & found)))


def _crowded(dataset: Dataset) -> Bools:
    """(B,) True where another object overlaps an object by CROWDED_IOU or more."""
    index = np.arange(len(dataset.boxes))
    boxes = Ranked(
        index, dataset.box_label, dataset.box_image, np.ones(len(index)), dataset.boxes, index, np.zeros(0, np.int64), 0
    )
    pairs = overlaps(boxes, dataset, CROWDED_IOU, same_class=False)
    others = (pairs.found != pairs.truth) & ~dataset.iscrowd[pairs.truth]
    crowded: Bools = np.zeros(len(index), dtype=np.bool_)
    crowded[pairs.found[others]] = True
    return crowded
