"""The pictures in which a class goes wrong most, with what was missed, what was found and what was made up.

Detections count from the class's operating point on, as in the confusion matrix; a match needs an IoU of 0.5.

Shapes: N ranked detections, B boxes. Boxes are xywh in pixels, as in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focalcli.coco import Dataset, Ints
from focalcli.detections import Detections
from focalcli.evaluation.matching import IOU_THRESHOLDS, Pairs, Ranked, choose, outcome, overlaps, queue, rank


@dataclass(frozen=True)
class Wrong:
    """One error. score: of the detection, None for an object that nothing covers. other: see BadPicture."""

    box: tuple[float, ...]
    score: float | None
    other: str | None


@dataclass(frozen=True)
class BadPicture:
    """One picture and one class.

    Attributes:
        image: index into Dataset.image_ids.
        missed: objects; `other` is the class that a detection there gives them, with its score.
        false: detections; `other` is the class of the object that they lie on, None for the background.
        right: objects that were found.
    """

    image: int
    missed: tuple[Wrong, ...]
    false: tuple[Wrong, ...]
    right: tuple[tuple[float, ...], ...]


def worst_pictures(
    dataset: Dataset, detections: Detections, labels: Sequence[int], thresholds: Sequence[float], of: Sequence[int],
    most: int,
) -> dict[int, tuple[BadPicture, ...]]:  # fmt: skip
    """At most `most` pictures of each class in `of`, those with the most errors first, of equals the surest ones.

    Args:
        labels: indices into dataset.categories that are scored. thresholds: the score from which each counts.
    """
    cut = np.full(len(dataset.categories), np.inf)
    cut[list(labels)] = thresholds
    ranked = rank(dataset, detections, list(labels))
    pairs = overlaps(ranked, dataset, float(IOU_THRESHOLDS[0]), same_class=False)
    same = ranked.label[pairs.found] == dataset.box_label[pairs.truth]
    matches = choose(queue(ranked, pairs.only(same)), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1])
    at_half = outcome(ranked, matches)
    counts = ranked.scores >= cut[ranked.label]
    found = np.zeros(len(dataset.boxes), dtype=np.bool_)
    found[at_half.truth[at_half.hit & counts]] = True
    crossed = pairs.only(~same & counts[pairs.found] & ~dataset.iscrowd[pairs.truth])
    result = {}
    for label in of:
        rows = np.arange(ranked.starts[label], ranked.starts[label + 1])
        false = rows[counts[rows] & ~at_half.hit[rows] & ~at_half.ignored[rows]]
        objects = np.flatnonzero((dataset.box_label == label) & ~dataset.iscrowd)
        missed = objects[~found[objects]]
        images = len(dataset.image_ids)
        errors = np.bincount(ranked.image[false], minlength=images)
        errors += np.bincount(dataset.box_image[missed], minlength=images)
        sure = np.bincount(ranked.image[false], weights=ranked.scores[false], minlength=images)
        order = np.lexsort((-sure, -errors))[:most]
        result[label] = tuple(
            _picture(dataset, ranked, crossed, image, missed, false, objects[found[objects]])
            for image in order.tolist()
            if errors[image]
        )
    return result


def _picture(
    dataset: Dataset, ranked: Ranked, crossed: Pairs, image: int, missed: Ints, false: Ints, right: Ints
) -> BadPicture:
    lost, made_up = [], []
    for truth in missed[dataset.box_image[missed] == image].tolist():
        there = crossed.found[crossed.truth == truth]
        best = int(there[ranked.scores[there].argmax()]) if len(there) else None
        score = None if best is None else float(ranked.scores[best])
        name = None if best is None else dataset.categories[int(ranked.label[best])].name
        lost.append(Wrong(tuple(dataset.boxes[truth].tolist()), score, name))
    for row in false[ranked.image[false] == image].tolist():
        there = crossed.truth[crossed.found == row]
        name = dataset.categories[int(dataset.box_label[there[0]])].name if len(there) else None
        made_up.append(Wrong(tuple(ranked.boxes[row].tolist()), float(ranked.scores[row]), name))
    found = right[dataset.box_image[right] == image]
    return BadPicture(image, tuple(lost), tuple(made_up), tuple(map(tuple, dataset.boxes[found].tolist())))
