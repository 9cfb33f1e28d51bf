"""Which class is taken for which: the confusion matrix of a detector, with the background as one more class.

Only detections that reach the operating point of their class count, since a detector's lowest scores are confused with
everything. Right pairs (same class, IoU of at least 0.5) are made first, as COCO makes them; what is left over on both
sides is paired by the same rule across classes; what then has no partner is paired with the background.

Shapes: K classes, B boxes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from focalcli.coco import Bools, Dataset, Ints
from focalcli.detections import Detections
from focalcli.evaluation.matching import (
    IOU_THRESHOLDS,
    Ranked,
    choose,
    outcome,
    overlaps,
    queue,
    rank,
    rank_in_group,
)

BACKGROUND = "background"


@dataclass(frozen=True)
class Confusion:
    """Counts of pairs.

    Attributes:
        names: of the classes, and BACKGROUND at the end.
        matrix: [what it is][what it was called]; the last row holds detections of nothing, the last column objects that
            were not detected.
        thresholds: the scores from which the detections of each class count.
    """

    names: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    thresholds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def confusion(dataset: Dataset, detections: Detections, labels: list[int], thresholds: list[float | None]) -> Confusion:
    """At IoU 0.5.

    Args:
        labels: the classes, as rising indices into dataset.categories. thresholds: the operating point of each; None,
            where a class has none, becomes the median of the others.
    """
    known = [value for value in thresholds if value is not None]
    usual = float(np.median(known)) if known else 0.5
    cuts = [usual if value is None else value for value in thresholds]
    of_label = np.full(len(dataset.categories), np.inf)
    of_label[labels] = cuts
    ranked = rank(dataset, detections, labels)
    ranked = _subset(ranked, ranked.scores >= of_label[ranked.label])
    pairs = overlaps(ranked, dataset, float(IOU_THRESHOLDS[0]), same_class=False)
    same = ranked.label[pairs.found] == dataset.box_label[pairs.truth]
    right = outcome(
        ranked, choose(queue(ranked, pairs.only(same)), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1])
    )

    wanted = ~dataset.iscrowd & np.isin(dataset.box_label, labels)
    free_truth = wanted.copy()
    free_truth[right.truth[right.truth >= 0]] = False
    free_found = right.truth < 0
    left = pairs.only(free_found[pairs.found] & free_truth[pairs.truth])
    regardless = replace(ranked, label=np.zeros_like(ranked.label), rank=_rank_in_image(ranked))
    never = np.zeros_like(wanted)
    crossed = outcome(regardless, choose(queue(regardless, left), never, never, IOU_THRESHOLDS[:1])).truth
    truth = np.where(right.hit, right.truth, crossed)

    size = len(labels) + 1
    row = np.full(len(dataset.categories), -1)
    row[labels] = np.arange(len(labels))
    matrix = np.zeros((size, size), dtype=np.int64)
    counts = ~right.ignored
    actual = np.full(len(truth), size - 1)
    actual[truth >= 0] = row[dataset.box_label[truth[truth >= 0]]]
    np.add.at(matrix, (actual[counts], row[ranked.label[counts]]), 1)
    unseen = wanted.copy()
    unseen[truth[truth >= 0]] = False
    np.add.at(matrix, (row[dataset.box_label[unseen]], size - 1), 1)
    names = (*(dataset.categories[label].name for label in labels), BACKGROUND)
    return Confusion(names, tuple(map(tuple, matrix.tolist())), tuple(map(float, cuts)))


def _subset(ranked: Ranked, keep: Bools) -> Ranked:
    columns = {name: getattr(ranked, name)[keep] for name in ("index", "label", "image", "scores", "boxes", "rank")}
    return replace(ranked, **columns, starts=np.searchsorted(columns["label"], np.arange(len(ranked.starts))))


def _rank_in_image(ranked: Ranked) -> Ints:
    """(N,) place among the detections of any class in the image, the surest first."""
    order = np.lexsort((-ranked.scores, ranked.image))
    rank_of = np.empty_like(order)
    rank_of[order] = rank_in_group(ranked.image[order])
    return rank_of
