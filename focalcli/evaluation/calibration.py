"""Whether a detection's score is its chance to be right, and how to make it so.

A detection is right when it finds an object at IoU 0.5. The gap of a bin of scores lies between the mean score and the
share that is right; the detection ECE is the mean gap, weighted by the detections in the bins. LaECE asks the score to
say how well the box fits too: it sets the score against precision times the mean IoU of the hits.

Shapes: n detections of a class that are a hit or a miss. Scores are 0..1.
Sources: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599 (ECE); Küppers et al. 2020,
"Multivariate Confidence Calibration for Object Detection", arXiv:2004.13546 (detection ECE); Oksuz et al. 2023,
"Towards Building Self-Aware Object Detectors", arXiv:2307.00934 (LaECE; precision at IoU 0.5 here).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Id, Ints
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.evaluation.matching import IOU_THRESHOLDS, choose, outcome, overlaps, queue, rank
from focalcli.evaluation.scaling import Scaling

BINS, LAECE_BINS = 10, 25  # of equal width; the second is Oksuz et al.'s
LEAST_SCORE = 0.05  # the boxes below are written because they may be, not because the detector believes in them
FEWEST_DETECTIONS = 20  # for words about a class
SMALL_GAP = 0.03


@dataclass(frozen=True)
class Bin:
    """Detections with scores from `low` to `high`; mean score and precision are None where there are none."""

    low: float
    high: float
    detections: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True)
class ClassCalibration:
    """One class, or all of them together.

    Attributes:
        detections: those with a score of at least LEAST_SCORE; where there are none, all but the bins is None.
        mean_score, precision: of these. verdict: over- or underconfident, in words.
    """

    name: str
    category_id: Id | None
    detections: int
    mean_score: float | None
    precision: float | None
    ECE: float | None
    LaECE: float | None
    verdict: str
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Calibration:
    """Of every class, and of all detections as one; LaECE of `overall` is the mean over the classes that have any."""

    classes: tuple[ClassCalibration, ...]
    overall: ClassCalibration

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"least_score": LEAST_SCORE, "laece_bins": LAECE_BINS, **asdict(self)}


@dataclass(frozen=True)
class Judged:
    """The detections of a dataset that are a hit or a miss.

    Attributes:
        image, label: (n,) index into Dataset.image_ids and Dataset.categories.
        scores, hit: (n,). iou: (n,) of a hit with its object, 0 of a miss.
    """

    image: Ints
    label: Ints
    scores: Floats
    hit: Bools
    iou: Floats


def judge(dataset: Dataset, detections: Detections, labels: list[int] | None = None) -> Judged:
    """At IoU 0.5; those on crowds and those below LEAST_SCORE are left out.

    Raises:
        FocalError: a score is not in 0..1, so it cannot be a chance.
    """
    outside = (detections.scores < 0) | (detections.scores > 1)
    if outside.any():
        first = float(detections.scores[np.flatnonzero(outside)[0]])
        raise FocalError(
            f"{outside.sum()} of {len(detections)} scores are not in 0 to 1 (the first: {first:g}), so they cannot be "
            "chances to be right",
            "divide percents by 100; put logits through a sigmoid",
        )
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    ranked = rank(dataset, detections, chosen)
    pairs = overlaps(ranked, dataset, float(IOU_THRESHOLDS[0]))
    at_half = outcome(ranked, choose(queue(ranked, pairs), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1]))
    iou = np.zeros(len(ranked))
    matched = at_half.truth[pairs.found] == pairs.truth
    iou[pairs.found[matched]] = pairs.iou[matched]
    keep = ~at_half.ignored & (ranked.scores >= LEAST_SCORE)
    hit_iou = np.where(at_half.hit, iou, 0.0)
    return Judged(ranked.image[keep], ranked.label[keep], ranked.scores[keep], at_half.hit[keep], hit_iou[keep])


def calibration(
    dataset: Dataset, detections: Detections, labels: list[int] | None = None, scaling: Scaling | None = None
) -> Calibration:
    """How far scores are from chances, per class.

    Args:
        labels: look only at these indices into dataset.categories.
        scaling: applied to the scores first; which detections are looked at is decided before, so that the figures with
            and without it are of the same ones.

    Raises:
        FocalError: a score is not in 0..1.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    judged = judge(dataset, detections, chosen)
    if scaling is not None:
        judged = replace(judged, scores=scaling.apply(judged.scores))
    return measure(dataset, judged, chosen)


def measure(dataset: Dataset, judged: Judged, labels: list[int]) -> Calibration:
    """How far the scores of judged detections are from chances, for each of these indices into dataset.categories."""
    classes = []
    for label in labels:
        rows = judged.label == label
        category = dataset.categories[label]
        classes.append(
            _measure(category.name, category.id, judged.scores[rows], judged.hit[rows], _laece(judged, rows))
        )
    defined = [entry.LaECE for entry in classes if entry.LaECE is not None]
    mean = sum(defined) / len(defined) if defined else None
    return Calibration(tuple(classes), _measure("all", None, judged.scores, judged.hit, mean))


def _measure(name: str, category_id: Id | None, scores: Floats, hit: Bools, laece: float | None) -> ClassCalibration:
    count, score, right = _binned(scores, BINS, scores, hit)
    bins = []
    for number in range(BINS):
        n = int(count[number])
        low, high = number / BINS, (number + 1) / BINS
        bins.append(Bin(low, high, n, *((float(score[number] / n), float(right[number] / n)) if n else (None, None))))
    if not len(scores):
        return ClassCalibration(name, category_id, 0, None, None, None, None, "no detections", tuple(bins))
    says, is_right = float(scores.mean()), float(hit.mean())
    ece = float(np.abs(score - right).sum() / len(scores))
    return ClassCalibration(
        name,
        category_id,
        len(scores),
        says,
        is_right,
        ece,
        laece,
        _verdict(scores, hit, ece),
        tuple(bins),
    )


def _verdict(scores: Floats, hit: Bools, ece: float) -> str:
    if len(scores) < FEWEST_DETECTIONS:
        return f"too few detections to say ({len(scores)})"
    says, is_right = float(scores.mean()), float(hit.mean())
    figures = f"scores say {says:.2f}, {is_right:.2f} are right"
    sure = scores >= 0.5
    if min(np.count_nonzero(sure), np.count_nonzero(~sure)) >= FEWEST_DETECTIONS:
        above, below = (float(scores[half].mean() - hit[half].mean()) for half in (sure, ~sure))
        halves = ", ".join(
            f"{where} 0.5 they say {scores[half].mean():.2f} and {hit[half].mean():.2f} are right"
            for where, half in (("from", sure), ("below", ~sure))
        )
        if above < -SMALL_GAP and below > SMALL_GAP:
            return f"scores too near to the middle: {halves}"
        if above > SMALL_GAP and below < -SMALL_GAP:
            return f"scores too far from the middle: {halves}"
    if says - is_right > SMALL_GAP:
        return f"overconfident: {figures}"
    if is_right - says > SMALL_GAP:
        return f"underconfident: {figures}"
    if ece > 2 * SMALL_GAP:
        return f"right on average only: {figures}, over in some bins and under in others"
    return f"calibrated: {figures}"


def _binned(scores: Floats, bins: int, *columns: Any) -> tuple[Floats, ...]:
    """(bins,) the number of scores in each bin of equal width, and the sum of each column there."""
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    return (counts, *(np.bincount(place, weights=column, minlength=bins) for column in columns))


def _laece(judged: Judged, rows: Bools) -> float | None:
    scores, hit, iou = judged.scores[rows], judged.hit[rows], judged.iou[rows]
    if not len(scores):
        return None
    _, score, fit = _binned(scores, LAECE_BINS, scores, iou * hit)  # precision x mean IoU of the hits = IoU sum / n
    return float(np.abs(score - fit).sum() / len(scores))
