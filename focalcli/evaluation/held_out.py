"""What a map of scores is worth on pictures that it was not fitted to.

Either the pictures are dealt into PARTS and each part is mapped by what was fitted to the others (cross-fitting: every
picture is judged, none by a map that has seen it), or a share of them is for fitting and the rest for judging.

Shapes: n judged detections, I images, b rounds of the bootstrap.
Sources: as calibration and bootstrap; Stone 1974, "Cross-Validatory Choice and Assessment of Statistical Predictions".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Id, Ints
from focalcli.errors import FocalError
from focalcli.evaluation.bootstrap import draws, interval
from focalcli.evaluation.calibration import BINS, ClassCalibration, Judged, measure
from focalcli.evaluation.scaling import ClassScaling, Method, fit_classes

PARTS = 5


@dataclass(frozen=True)
class Change:
    """What the map does to one class, or to all detections as one; None where there are no detections.

    Attributes:
        detections: judged. before, after: of the held-out pictures' scores as they were, and mapped.
        ECE_luck: what the mapped scores would show on average were each exactly its chance: see ece_by_luck.
        ECE_change: after - before, negative is better. ECE_low, ECE_high: its 95 % interval, by draws of the images.
        own_map: the class has a map of its own, in part or whole.
    """

    name: str
    category_id: Id | None
    detections: int
    own_map: bool
    before: ClassCalibration
    after: ClassCalibration
    ECE_luck: float | None
    ECE_change: float | None
    ECE_low: float | None
    ECE_high: float | None


@dataclass(frozen=True)
class HeldOut:
    """Held-out figures, and the map that is to be kept.

    Attributes:
        scaling: fitted to all pictures after cross-fitting, to their share otherwise.
        share: of the pictures that were for fitting; None after cross-fitting.
        n_fitted, n_images: pictures that `scaling` was fitted to, and that judged it.
    """

    scaling: ClassScaling
    classes: tuple[Change, ...]
    overall: Change
    share: float | None
    n_fitted: int
    n_images: int
    rounds: int
    seed: int

    @property
    def helps(self) -> bool:
        """True when the ECE of all detections falls."""
        return self.overall.ECE_change is not None and self.overall.ECE_change < 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the map."""
        return {
            "parts": PARTS if self.share is None else None,
            "share_fitted": self.share,
            "images_fitted": self.n_fitted,
            "images_judged": self.n_images,
            "bootstrap_rounds": self.rounds,
            "seed": self.seed,
            "classes": [asdict(change) for change in self.classes],
            "overall": asdict(self.overall),
        }


def hold_out(
    dataset: Dataset,
    judged: Judged,
    labels: list[int],
    method: Method,
    *,
    per_class: bool,
    share: float | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> HeldOut:
    """Fit a map, and judge it on pictures that it has not seen.

    Args:
        labels: indices into dataset.categories of the classes to report.
        share: of the pictures, in 0..1, that the map is fitted to; None is cross-fitting.
        rounds: of the bootstrap; 0 leaves the intervals out.

    Raises:
        FocalError: too few detections to fit to, or none on the pictures that are to judge.
    """
    images, names = len(dataset.image_ids), dataset.class_names
    dealt = np.random.default_rng(seed).permutation(images)

    def fitted(rows: Bools) -> ClassScaling:
        return fit_classes(judged.scores[rows], judged.hit[rows], judged.label[rows], names, method, per_class)

    mapped = judged.scores.copy()
    if share is None:
        part = (dealt % PARTS)[judged.image]
        for number in range(PARTS):
            rows = part == number
            mapped[rows] = fitted(~rows).apply(judged.scores[rows], judged.label[rows], names)
        scaling, seen, n_fitted, n_images = fitted(np.ones(len(part), dtype=np.bool_)), part >= 0, images, images
    else:
        n_fitted = round(share * images)
        seen = (dealt >= n_fitted)[judged.image]
        scaling, n_images = fitted(~seen), images - n_fitted
        mapped[seen] = scaling.apply(judged.scores[seen], judged.label[seen], names)
    if not seen.any():
        raise FocalError(f"no detections on the {n_images} pictures that are to judge the map", "lower --fraction")
    columns = (judged.image, judged.label, judged.scores, judged.hit, judged.iou)
    before = Judged(*(column[seen] for column in columns))
    after = replace(before, scores=mapped[seen])
    weights = draws(images, rounds, seed) if rounds else None
    pair = measure(dataset, before, labels), measure(dataset, after, labels)
    changes = [
        _change(*both, before.label == label, before, after, weights, both[0].name in scaling.own)
        for label, *both in zip(labels, *(calibration.classes for calibration in pair), strict=True)
    ]
    whole = np.ones(len(before.label), dtype=np.bool_)
    overall = _change(*(calibration.overall for calibration in pair), whole, before, after, weights, False)
    return HeldOut(scaling, tuple(changes), overall, share, n_fitted, n_images, rounds, seed)


def _change(
    was: ClassCalibration,
    becomes: ClassCalibration,
    rows: Bools,
    before: Judged,
    after: Judged,
    weights: Ints | None,
    own_map: bool,
) -> Change:
    if was.ECE is None or becomes.ECE is None:
        return Change(was.name, was.category_id, 0, own_map, was, becomes, None, None, None, None)
    change, ends = becomes.ECE - was.ECE, None
    if weights is not None:
        old, new = (
            ece_of_draws(side.image[rows], side.scores[rows], side.hit[rows], weights) for side in (before, after)
        )
        ends = interval(new - old, change, least=-1.0)
    low, high = ends or (None, None)
    luck = ece_by_luck(after.scores[rows])
    return Change(was.name, was.category_id, was.detections, own_map, was, becomes, luck, change, low, high)


def ece_by_luck(scores: Floats) -> float:
    """The mean ECE of detections that are right with exactly these chances: a sample's, which 0 is not to be had of.

    A bin's hits vary by the root of the sum of p (1 - p), and a normal variable lies sqrt(2 / pi) of that off on
    average.
    """
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    variance = np.bincount(place, weights=scores * (1 - scores), minlength=BINS)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(scores))


def ece_of_draws(image: Ints, scores: Floats, hit: Bools, weights: Ints) -> Floats:
    """(b,) the ECE of each draw of the images; NaN where it drew no detection.

    Args:
        image: (n,) of each detection. weights: (b, I) how often each image was drawn.
    """
    images = weights.shape[1]
    place = image * BINS + np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(place, weights=scores - hit, minlength=images * BINS).reshape(images, BINS)
    drawn = weights.astype(np.float64)
    count = drawn @ np.bincount(image, minlength=images)
    total = np.abs(drawn @ gaps).sum(axis=1)
    return np.divide(total, count, out=np.full(len(drawn), np.nan), where=count > 0)
