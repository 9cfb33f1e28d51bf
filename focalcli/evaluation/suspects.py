"""Truths that a detector disputes: the labels to look at first when some of them are wrong.

A detector that has not seen a picture is a second annotator. Where the two disagree, one is wrong, and the surer the
detector usually is right, the likelier it is the label. Four ways to disagree:
    missed label  a detection on nothing that is labelled: IoU below 0.3 with every box, and inside none of its class
    wrong class   an object that a detection of another class covers, and no equally sure one of its own class
    bad box       an object whose surest detection, of its class, fits it with an IoU of 0.3 to 0.6 only
    unneeded      an object that no detection of any class finds at any score, of a class and size that are well found
Dispute, 0..1, ranks them. It starts from a detection's chance to be right, which is its score put through an isotonic
map of its class (fitted on the same detections), since a score of 0.6 can mean much for one class and little for
another. It falls with the trust in the class: a class that the detector itself hardly knows proves nothing.

Why it matters with the focal loss: the loss of an anchor, -(1 - p_t)^gamma log(p_t), keeps the share (1 - p_t)^gamma of
its cross-entropy. A label that the network rightly disputes has p_t near 0 and keeps all of it, while the right ones
around it, at p_t near 1, keep almost nothing: against a right label at p_t = 0.9, a wrong one at p_t = 0.1 weighs
(0.9 / 0.1)^gamma as much, which is 9 times at gamma 1 and 81 times at gamma 2. The higher gamma is, the more of the
gradient is spent on learning mistakes.

Only predictions on pictures that were not trained on count: a network learns the mistakes of its training set by heart.

Shapes: N ranked detections, B boxes.
Sources: Northcutt et al. 2021, "Confident Learning", arXiv:1911.00068 (a class's own confidence as the measure);
Tkachenko et al. 2023, "ObjectLab", arXiv:2309.00832 (overlooked, swapped and badly located boxes). The scores are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Id, Ints
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.evaluation.accumulate import AREA_RANGES
from focalcli.evaluation.calibration import judge
from focalcli.evaluation.matching import IOU_THRESHOLDS, Outcome, Pairs, Ranked, choose, outcome, overlaps, queue, rank
from focalcli.evaluation.scaling import Scaling, fit

Kind = Literal["missed label", "wrong class", "bad box", "unneeded"]
KINDS: tuple[Kind, ...] = ("missed label", "wrong class", "bad box", "unneeded")
SAME_IOU = 0.5  # a detection covers an object
NEAR_IOU, FITTING_IOU = 0.3, 0.6  # a bad box lies between
INSIDE = 0.7  # of a detection within one object: a part of it, not an object of its own
LEAST_DISPUTE = 0.2
WRONG_BEFOREHAND = 0.02  # share of labels that one expects to be wrong before looking
MOST = 1000  # that are kept
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Suspect:
    """One label to look at.

    Attributes:
        dispute: 0..1, how strongly the detector disagrees. image: index into Dataset.image_ids.
        annotation_id, name, box: of the label; None for a missed one. box is xywh in px.
        found, score, found_box: class, score and box of the detection; None where nothing was found.
        iou: of the two boxes, None without both.
    """

    kind: Kind
    dispute: float
    image: int
    image_id: Id
    file_name: str
    annotation_id: Id | None = None
    name: str | None = None
    box: Box | None = None
    found: str | None = None
    score: float | None = None
    found_box: Box | None = None
    iou: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {key: value for key, value in asdict(self).items() if key != "image"}


def find_suspects(
    dataset: Dataset, detections: Detections, labels: Iterable[int] | None = None, most: int = MOST
) -> tuple[Suspect, ...]:
    """The labels of `dataset` that the detections dispute most, the most disputed first.

    Args:
        labels: look only at these indices into dataset.categories. most: how many at the most.

    Raises:
        FocalError: a score is not in 0..1, so it cannot be a chance.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    ranked = rank(dataset, detections, chosen)
    pairs = overlaps(ranked, dataset, 0.0, same_class=False)
    same = ranked.label[pairs.found] == dataset.box_label[pairs.truth]
    own = pairs.only(same & (pairs.iou >= SAME_IOU))
    at_half = outcome(ranked, choose(queue(ranked, own), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1]))
    judged = judge(dataset, detections, chosen)
    chance = _chances(ranked, judged.label, judged.scores, judged.hit)
    objects = ~dataset.iscrowd & np.isin(dataset.box_label, chosen)

    free = pairs.only(~same & (pairs.iou >= SAME_IOU) & ~(at_half.hit | at_half.ignored)[pairs.found])
    named = _class_chances(ranked, at_half, free)
    own_chance, own_row = _surest(own, named, len(objects))
    other_chance, other_row = _surest(free, named, len(objects))
    trust = _shares(objects & (own_row >= 0) & (own_chance >= other_chance), objects, dataset.box_label)
    wrong_class = np.where(objects, (other_chance - own_chance) * trust[dataset.box_label], 0.0)

    group = _kinds_of_object(dataset)
    close = pairs.only(same & (pairs.iou >= NEAR_IOU) & ~_hits_another(at_half, pairs) & objects[pairs.truth])
    near_chance, near_row = _surest(close, chance, len(objects))
    iou = _iou_with(close, near_row)
    bad_box = np.where(iou < FITTING_IOU, near_chance, 0.0) * _better_fitting(iou, group)

    touched = np.zeros(len(objects), dtype=np.bool_)
    touched[pairs.truth[pairs.iou >= NEAR_IOU]] = True
    unneeded = np.where(objects & ~touched, _unneeded(own_row >= 0, objects, group), 0.0)

    overlooked = _overlooked(ranked, dataset, pairs, at_half, chance)
    of_truths = np.stack([wrong_class, bad_box, unneeded])
    kind, row = of_truths.argmax(axis=0), np.stack([other_row, near_row, np.full(len(objects), -1)])
    dispute = np.concatenate([overlooked, of_truths.max(axis=0, initial=0.0)])
    order = np.argsort(-dispute, kind="stable")
    order = order[dispute[order] >= LEAST_DISPUTE][:most]
    n = len(ranked)
    return tuple(
        _suspect(dataset, ranked, "missed label", dispute[place], place, None)
        if place < n
        else _suspect(
            dataset, ranked, KINDS[1 + kind[place - n]], dispute[place], int(row[kind[place - n], place - n]), place - n
        )
        for place in order.tolist()
    )


def _chances(ranked: Ranked, label: Ints, scores: Floats, hit: Bools) -> Floats:
    """(N,) how often a detection of such a class and score is right; the score itself where there are too few.

    Args:
        label, scores, hit: (n,) of detections that are right or wrong.
    """
    everything = _scaling(scores, hit)
    result = ranked.scores.copy()
    for k in np.unique(ranked.label).tolist():
        rows = slice(ranked.starts[k], ranked.starts[k + 1])
        own = label == k
        scaling = _scaling(scores[own], hit[own]) or everything
        if scaling is not None:
            result[rows] = scaling.apply(result[rows])
    return result


def _class_chances(ranked: Ranked, at_half: Outcome, free: Pairs) -> Floats:
    """(N,) how often a detection of such a class and score that covers an object names it right."""
    covers = at_half.hit.copy()
    covers[free.found] = True
    return _chances(ranked, ranked.label[covers], ranked.scores[covers], at_half.hit[covers])


def _scaling(scores: Floats, hit: Bools) -> Scaling | None:
    try:
        return fit(scores, hit, "isotonic")
    except FocalError:
        return None


def _surest(pairs: Pairs, chance: Floats, boxes: int) -> tuple[Floats, Ints]:
    """(B,) the highest chance of the detections paired with each box, 0 without any, and whose it is, or -1."""
    order = np.lexsort((pairs.iou, chance[pairs.found], pairs.truth))
    truth, found = pairs.truth[order], pairs.found[order]
    last = np.r_[truth[1:] != truth[:-1], True][: len(truth)]
    best, row = np.zeros(boxes), np.full(boxes, -1)
    best[truth[last]], row[truth[last]] = chance[found[last]], found[last]
    return best, row


def _shares(part: Bools, whole: Bools, label: Ints) -> Floats:
    """(K,) the share of each class's `whole` that is in `part`; 0 without any."""
    classes = int(label.max(initial=-1)) + 1
    count = np.bincount(label[whole], minlength=classes)
    return np.bincount(label[part], minlength=classes) / np.maximum(count, 1)


def _hits_another(at_half: Outcome, pairs: Pairs) -> Bools:
    """(P,) True where the detection has found some other object than that of the pair."""
    truth = at_half.truth[pairs.found]
    return (truth >= 0) & (truth != pairs.truth)


def _iou_with(pairs: Pairs, row: Ints) -> Floats:
    """(B,) IoU of each box with the detection in `row`; NaN where there is none."""
    result = np.full(len(row), np.nan)
    chosen = row[pairs.truth] == pairs.found
    result[pairs.truth[chosen]] = pairs.iou[chosen]
    return result


def _kinds_of_object(dataset: Dataset) -> Ints:
    """(B,) a number for each class and COCO size: how well boxes fit, and how many are found, depends on both."""
    size = np.searchsorted([high for _, high in AREA_RANGES[1:-1]], dataset.area, side="left")
    return dataset.box_label * len(AREA_RANGES) + size


def _better_fitting(iou: Floats, group: Ints) -> Floats:
    """(B,) the share of its group that detections fit better than this object: how odd the box is; NaN is no object."""
    result = np.zeros(len(iou))
    for number in np.unique(group[iou < FITTING_IOU]).tolist():
        rows = np.flatnonzero((group == number) & ~np.isnan(iou))
        result[rows] = 1 - np.searchsorted(np.sort(iou[rows]), iou[rows], side="right") / len(rows)
    return result


def _unneeded(found: Bools, objects: Bools, group: Ints) -> Floats:
    """(B,) the chance that a label that nothing finds is wrong: by Bayes, from how many of its group are found.

    A right label is overlooked as often as others of its group, a wrong one always.
    """
    count = np.bincount(group[objects], minlength=int(group.max(initial=0)) + 1)
    overlooked = (np.bincount(group[objects & ~found], minlength=len(count)) + 1) / (count + 2)  # Laplace's rule
    return (WRONG_BEFOREHAND / (WRONG_BEFOREHAND + (1 - WRONG_BEFOREHAND) * overlooked))[group]


def _overlooked(ranked: Ranked, dataset: Dataset, pairs: Pairs, at_half: Outcome, chance: Floats) -> Floats:
    """(N,) dispute of the detections on nothing; 0 for all others, and for all but the surest of those that overlap."""
    near = pairs.iou >= NEAR_IOU
    common = pairs.iou / (1 + pairs.iou) * (_area(ranked.boxes[pairs.found]) + _area(dataset.boxes[pairs.truth]))
    same = ranked.label[pairs.found] == dataset.box_label[pairs.truth]
    near |= (same & (common >= INSIDE * _area(ranked.boxes[pairs.found]))) | dataset.iscrowd[pairs.truth]
    alone = ~(at_half.hit | at_half.ignored)
    alone[pairs.found[near]] = False
    result = np.where(alone, chance, 0.0)
    rows = np.flatnonzero(result >= LEAST_DISPUTE)
    rows = rows[np.argsort(-result[rows], kind="stable")]
    for image in np.unique(ranked.image[rows]).tolist():
        here = rows[ranked.image[rows] == image]
        result[here[_covered(ranked.boxes[here])]] = 0.0
    return result


def _area(boxes: Floats) -> Floats:
    return boxes[:, 2] * boxes[:, 3]


def _covered(boxes: Floats) -> Bools:
    """(n,) True where an earlier box that is not itself covered has an IoU of NEAR_IOU or more with it."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    side = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    common = np.prod(np.maximum(side, 0.0), axis=2)
    area = _area(boxes)
    near = common >= NEAR_IOU * (area[:, None] + area[None] - common)
    covered = np.zeros(len(boxes), dtype=np.bool_)
    for row in range(len(boxes)):
        if not covered[row]:
            covered[row + 1 :] |= near[row, row + 1 :]
    return covered


def _suspect(dataset: Dataset, ranked: Ranked, kind: Kind, dispute: float, row: int, truth: int | None) -> Suspect:
    """row: of Ranked, -1 where nothing was found. truth: index into Dataset.boxes."""
    image = int(ranked.image[row] if truth is None else dataset.box_image[truth])
    more: dict[str, Any] = {}
    if truth is not None:
        more["annotation_id"] = dataset.annotation_ids[truth : truth + 1].tolist()[0]
        more["name"] = dataset.categories[int(dataset.box_label[truth])].name
        more["box"] = _xywh(dataset.boxes[truth])
    if row >= 0:
        more["found"] = dataset.categories[int(ranked.label[row])].name
        more["score"] = float(ranked.scores[row])
        more["found_box"] = _xywh(ranked.boxes[row])
    if truth is not None and row >= 0:
        more["iou"] = _iou(dataset.boxes[truth], ranked.boxes[row])
    return Suspect(kind, round(float(dispute), 4), image, dataset.image_ids[image], dataset.file_names[image], **more)


def _xywh(box: Floats) -> Box:
    x, y, w, h = box.tolist()
    return x, y, w, h


def _iou(a: Floats, b: Floats) -> float:
    side = np.maximum(np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2]), 0.0)
    common = float(side.prod())
    return common / (float(a[2] * a[3]) + float(b[2] * b[3]) - common)
