"""Dataset + Detections -> ApTable: COCO's average precision per class, None where it is undefined.

The numbers are those of pycocotools' COCOeval (boxes, default parameters) to the last bit, except where it is wrong:
annotation id 0 and repeated ids, which it takes for "no match", cannot bite.

Shapes: I images, D detections, K classes; T IoU thresholds, R recall points, A area ranges, M detection limits as in
COCOeval. Boxes are xywh in pixels, metrics are fractions in 0..1.
Sources: https://cocodataset.org/#detection-eval; rare/common/frequent: Gupta et al. 2019, "LVIS", arXiv:1908.03195.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from focalcli.coco import GROUP_IMAGES, Dataset, Floats, Group, Id, frequency_group
from focalcli.detections import Detections, refuse_unscorable
from focalcli.errors import FocalError, nearest
from focalcli.evaluation import accumulate, referee
from focalcli.evaluation.bootstrap import CONFIDENCE, Interval, Replicates, draws, interval, replicates
from focalcli.evaluation.curves import operating_point
from focalcli.evaluation.matching import MAX_DETS, Matches, Outcome, Ranked, outcome, rank

Engine = Literal["focal", "pycocotools"]
COUNTED_FROM_SCORE = 0.05  # torchvision's score_thresh; below it detectors write as many boxes as they are allowed to
FEW_OBJECTS = 25  # with fewer, one standard error of the recall alone can reach 0.1: sqrt(1/4 / 25)
_LEFT_OUT = ("F001", "F101", "F102", "F103")  # repeated ids; boxes without area, not finite, outside their picture

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # area ranges: any, < 32^2, < 96^2, above
_EVERY_IOU, _IOU_50, _IOU_75 = slice(None), slice(0, 1), slice(5, 6)  # 0.50, 0.55 ... 0.95
_PRECISION = {  # name -> IoU thresholds, area range; always at 100 detections
    "AP": (_EVERY_IOU, _ALL),
    "AP50": (_IOU_50, _ALL),
    "AP75": (_IOU_75, _ALL),
    "APs": (_EVERY_IOU, _SMALL),
    "APm": (_EVERY_IOU, _MEDIUM),
    "APl": (_EVERY_IOU, _LARGE),
}
_RECALL = {  # name -> area range, index into COCOeval's limits of 1, 10 and 100 detections
    "AR1": (_ALL, 0),
    "AR10": (_ALL, 1),
    "AR100": (_ALL, 2),
    "ARs": (_SMALL, 2),
    "ARm": (_MEDIUM, 2),
    "ARl": (_LARGE, 2),
}


@dataclass(frozen=True)
class ClassAp:
    """One class.

    Attributes:
        group: by the training images that hold the class (GROUP_IMAGES); None when unknown or when there are none.
        n_train: objects in training, None when unknown. n_val: objects scored against, crowds left out.
        detections: those with a score of at least COUNTED_FROM_SCORE; where n_val is 0 all of them are false.
        AP to AR100: 0..1, None where there is no object (of that size) to find.
        AP_low to AP50_high: the bootstrap's 95 % interval over images; None without rounds or without objects.
        threshold: the score that maximises F1 at IoU 0.5, with precision, recall and F1 of all that reach it; None
            where nothing is found.
    """

    name: str
    category_id: Id
    group: Group | None
    n_train: int | None
    n_val: int
    detections: int
    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR100: float | None
    AP_low: float | None
    AP_high: float | None
    AP50_low: float | None
    AP50_high: float | None
    threshold: float | None
    precision: float | None
    recall: float | None
    F1: float | None

    @property
    def has_few_objects(self) -> bool:
        """Too few for its AP to say much: see FEW_OBJECTS."""
        return self.n_val < FEW_OBJECTS


@dataclass(frozen=True)
class ApTable:
    """COCO's numbers, per class and over the classes that have objects.

    Attributes:
        classes: in the order of Dataset.categories.
        summary: AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl APr APc APf, each 0..1 or None.
        intervals: of AP and AP50 in `summary`; None without rounds.
        n_objects: without crowds. n_detections: of any score.
        n_beyond_max_dets: detections past the best 100 of their image and class, which COCO's rules never look at.
        rounds: of the bootstrap. unlike_pycocotools: why pycocotools on the same files gives other numbers, in words.
    """

    classes: tuple[ClassAp, ...]
    summary: dict[str, float | None]
    n_images: int
    n_objects: int
    n_detections: int
    n_beyond_max_dets: int
    intervals: dict[str, Interval | None]
    rounds: int
    unlike_pycocotools: tuple[str, ...]

    def sorted_by(self, key: str) -> tuple[ClassAp, ...]:
        """The classes by any field of ClassAp, lowest first, None last, equals in the order of the dataset.

        Raises:
            FocalError: there is no such field.
        """
        known = [field.name for field in fields(ClassAp)]
        if key not in known:
            guess = nearest(key, known)
            raise FocalError(
                f"cannot sort classes by {key!r}; expected one of {', '.join(known)}",
                f"did you mean {guess}?" if guess else "AP puts the worst class first",
            )
        valued = [entry for entry in self.classes if getattr(entry, key) is not None]
        undefined = [entry for entry in self.classes if getattr(entry, key) is None]
        return (*sorted(valued, key=lambda entry: getattr(entry, key)), *undefined)

    def ordered(self, key: str | None) -> ApTable:
        """The same table with its classes by a field (see sorted_by); None: most frequent in training first."""
        if key is not None:
            return replace(self, classes=self.sorted_by(key))
        return replace(self, classes=tuple(sorted(self.classes, key=lambda c: (-(c.n_train or 0), -c.n_val))))

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat dict for each class, for CSV."""
        return [asdict(entry) for entry in self.classes]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the cuts behind `group` and `detections` are stated in it."""
        return {
            "schema_version": 1,
            "kind": "ap",
            "summary": dict(self.summary),
            "n_images": self.n_images,
            "n_objects": self.n_objects,
            "n_detections": self.n_detections,
            "n_beyond_max_dets": self.n_beyond_max_dets,
            "intervals": {name: None if ends is None else list(ends) for name, ends in self.intervals.items()},
            "bootstrap_rounds": self.rounds,
            "confidence": CONFIDENCE,
            "few_objects": FEW_OBJECTS,
            "unlike_pycocotools": list(self.unlike_pycocotools),
            "max_dets": MAX_DETS,
            "detections_counted_from_score": COUNTED_FROM_SCORE,
            "group_train_images": {group: list(cuts) for group, cuts in GROUP_IMAGES.items()},
            "classes": self.to_rows(),
        }


# ------------------------------------------------------------------------------------------------------- evaluation


def evaluate(
    dataset: Dataset,
    detections: Detections,
    *,
    n_train: Mapping[str, int] | None = None,
    images_train: Mapping[str, int] | None = None,
    labels: Iterable[int] | None = None,
    engine: Engine = "focal",
    rounds: int = 0,
    seed: int = 0,
) -> ApTable:
    """Score detections against the usable boxes of a dataset, as COCOeval does.

    Boxes that the loader left out (Dataset.defects), such as those of zero size, are not objects here, while COCOeval
    on the file itself counts them as missed by every detector: ApTable.unlike_pycocotools says so.

    Args:
        n_train: class name -> objects in training; a name that is not in it is unknown, not 0.
        images_train: class name -> training images that hold it, which is what LVIS groups classes by.
        labels: score only these indices into dataset.categories.
        engine: pycocotools computes AP and AR with pycocotools, to hold ours against.
        rounds: of the bootstrap over images, for the intervals.

    Raises:
        FocalError: the dataset has no object, or a detection is not finite (COCOeval would give AP 1.0 for NaN).
    """
    if not dataset.objects_per_class.any():
        raise FocalError(
            f"{dataset.path}: no objects, so no AP; expected at least one usable box that is not a crowd",
            f"`focal audit {dataset.path}` lists the boxes that cannot be used",
        )
    refuse_unscorable(detections, f"detections on {dataset.path}")
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    scored = [label for label in chosen if dataset.objects_per_class[label] > 0]
    ranked = rank(dataset, detections, chosen)
    precision, recall, matches = accumulate.precision_and_recall(dataset, ranked, scored)
    if engine == "pycocotools":
        precision, recall = referee.precision_and_recall(dataset, detections, scored)
    at_half = outcome(ranked, matches)
    luck = _luck(dataset, ranked, matches, scored, rounds, seed)

    groups = [frequency_group((images_train or {}).get(category.name)) for category in dataset.categories]
    summary = {name: _metric(precision, recall, name, range(len(scored))) for name in (*_PRECISION, *_RECALL)}
    for group in GROUP_IMAGES:
        members = [place for place, label in enumerate(scored) if groups[label] == group]
        summary[f"AP{group[0]}"] = _metric(precision, recall, "AP", members)

    sure = np.bincount(detections.label[detections.scores >= COUNTED_FROM_SCORE], minlength=len(groups))
    classes = []
    for label in chosen:
        category = dataset.categories[label]
        place = [scored.index(label)] if label in scored else []
        metrics = {name: _metric(precision, recall, name, place) for name in (*_PRECISION, "AR100")}
        entry = ClassAp(
            name=category.name,
            category_id=category.id,
            group=groups[label],
            n_train=(n_train or {}).get(category.name),
            n_val=int(dataset.objects_per_class[label]),
            detections=int(sure[label]),
            **metrics,
            **_ends(_intervals(luck, place, metrics)),
            **_operating(ranked, at_half, label, int(dataset.objects_per_class[label])),
        )
        classes.append(entry)
    return ApTable(
        classes=tuple(classes),
        summary=summary,
        n_images=len(dataset.image_ids),
        n_objects=int(dataset.objects_per_class[chosen].sum()),
        n_detections=int(np.isin(detections.label, chosen).sum()),
        n_beyond_max_dets=ranked.beyond,
        intervals=_intervals(luck, list(range(len(scored))), summary),
        rounds=rounds,
        unlike_pycocotools=_unlike_pycocotools(dataset, detections),
    )


def _metric(precision: Floats, recall: Floats, name: str, classes: Sequence[int]) -> float | None:
    """The mean over `classes` (positions on the K axis) of what is defined, None where nothing is."""
    if name in _PRECISION:
        ious, area = _PRECISION[name]
        values = precision[ious][:, :, list(classes), area]  # (T, R, k): COCOeval's order, so its rounding too
    else:
        area, limit = _RECALL[name]
        values = recall[:, list(classes), area, limit]  # (T, k)
    defined = values[values > -1]  # -1 is COCOeval's "no such object"
    return float(defined.mean()) if defined.size else None


def _luck(
    dataset: Dataset, ranked: Ranked, matches: Matches, scored: list[int], rounds: int, seed: int
) -> Replicates | None:
    if not rounds:
        return None
    return replicates(dataset, ranked, matches, scored, draws(len(dataset.image_ids), rounds, seed))


def _intervals(
    luck: Replicates | None, classes: list[int], measured: Mapping[str, float | None]
) -> dict[str, Interval | None]:
    """Of the mean over `classes` (positions on the K axis)."""
    return {
        name: interval(luck.mean(name, classes), measured[name]) if luck and measured[name] is not None else None
        for name in ("AP", "AP50")
    }


def _ends(intervals: Mapping[str, Interval | None]) -> dict[str, float | None]:
    ends = {}
    for name, pair in intervals.items():
        ends[f"{name}_low"], ends[f"{name}_high"] = pair or (None, None)
    return ends


def _operating(ranked: Ranked, at_half: Outcome, label: int, objects: int) -> dict[str, float | None]:
    rows = slice(ranked.starts[label], ranked.starts[label + 1])
    counts = ~at_half.ignored[rows]
    point = operating_point(ranked.scores[rows][counts], at_half.hit[rows][counts], objects)
    return asdict(point) if point else dict.fromkeys(("threshold", "precision", "recall", "F1"))


def _unlike_pycocotools(dataset: Dataset, detections: Detections) -> tuple[str, ...]:
    """What it would do otherwise with these files, and what that does to its numbers."""
    found = []
    counts = {code: sum(defect.count for defect in dataset.defects if defect.code == code) for code in _LEFT_OUT}
    if (dataset.annotation_ids == 0).any():
        found.append("it takes annotation id 0 for no match, so that object can never be found")
    if repeated := counts.pop("F001"):
        found.append(f"it drops objects that share an annotation id: {repeated} here")
    if left_out := sum(counts.values()):
        found.append(f"it counts boxes that nothing can find as missed: {left_out} here, left out by focal")
    if not len(detections):
        found.append("it stops with an IndexError where there are no detections")
    return tuple(f"unlike pycocotools: {text}" for text in found)
