"""Dataset + Detections -> ApTable: COCO's average precision per class, None where it is undefined.

The numbers are those of pycocotools' COCOeval (boxes, default parameters), fed from our arrays with ids counted from 1:
annotation id 0 and repeated ids, which it takes for "no match", cannot bite.

Shapes: I images, D detections, K classes; T IoU thresholds, R recall points, A area ranges, M detection limits as in
COCOeval. Boxes are xywh in pixels, metrics are fractions in 0..1.
Sources: https://cocodataset.org/#detection-eval; rare/common/frequent: Gupta et al. 2019, "LVIS", arXiv:1908.03195.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from focalcli.coco import GROUP_IMAGES, Bools, Dataset, Floats, Group, Id, Ints, frequency_group
from focalcli.detections import Detections, refuse_unscorable
from focalcli.errors import FocalError, nearest

if TYPE_CHECKING:
    from pycocotools.coco import COCO

MAX_DETS = 100  # per image and class: COCO looks at the best 100 and at no other
COUNTED_FROM_SCORE = 0.05  # torchvision's score_thresh; below it detectors write as many boxes as they are allowed to

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


@dataclass(frozen=True)
class ApTable:
    """COCO's numbers, per class and over the classes that have objects.

    Attributes:
        classes: in the order of Dataset.categories.
        summary: AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl APr APc APf, each 0..1 or None.
        n_objects: without crowds. n_detections: of any score.
        n_beyond_max_dets: detections past the best 100 of their image and class, which COCO's rules never look at.
    """

    classes: tuple[ClassAp, ...]
    summary: dict[str, float | None]
    n_images: int
    n_objects: int
    n_detections: int
    n_beyond_max_dets: int

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
) -> ApTable:
    """Score detections against the usable boxes of a dataset, as COCOeval does.

    The one difference from COCOeval on the file itself: boxes that the loader left out (Dataset.defects), such as those
    of zero size, are not objects here, while COCOeval counts them as missed by every detector.

    Args:
        n_train: class name -> objects in training; a name that is not in it is unknown, not 0.
        images_train: class name -> training images that hold it, which is what LVIS groups classes by.
        labels: score only these indices into dataset.categories.

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
    precision, recall = _accumulate(dataset, detections, scored)

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
        entry = ClassAp(
            name=category.name,
            category_id=category.id,
            group=groups[label],
            n_train=(n_train or {}).get(category.name),
            n_val=int(dataset.objects_per_class[label]),
            detections=int(sure[label]),
            **{name: _metric(precision, recall, name, place) for name in (*_PRECISION, "AR100")},
        )
        classes.append(entry)
    ours = np.isin(detections.label, chosen)
    return ApTable(
        classes=tuple(classes),
        summary=summary,
        n_images=len(dataset.image_ids),
        n_objects=int(dataset.objects_per_class[chosen].sum()),
        n_detections=int(ours.sum()),
        n_beyond_max_dets=_beyond_max_dets(detections.image[ours], detections.label[ours]),
    )


def _beyond_max_dets(image: Ints, label: Ints) -> int:
    width = int(label.max(initial=0)) + 1
    _, counts = np.unique(image * width + label, return_counts=True)
    return int((counts - MAX_DETS).clip(min=0).sum())


def _metric(precision: Floats, recall: Floats, name: str, classes: Sequence[int]) -> float | None:
    """The mean over `classes` (positions on the K axis) of what is defined, None where nothing is."""
    if name in _PRECISION:
        ious, area = _PRECISION[name]
        values = precision[ious][:, :, list(classes), area, 2]  # (T, R, k): COCOeval's order, so its rounding too
    else:
        area, limit = _RECALL[name]
        values = recall[:, list(classes), area, limit]  # (T, k)
    defined = values[values > -1]  # -1 is COCOeval's "no such object"
    return float(defined.mean()) if defined.size else None


def _accumulate(dataset: Dataset, detections: Detections, labels: list[int]) -> tuple[Floats, Floats]:
    """COCOeval's precision (T, R, K, A, M) and recall (T, K, A, M), K being `labels`, each of which has objects.

    The one place that knows the engine. `labels` goes in whole and the arrays are sliced afterwards: calling COCOeval
    once per class gives other numbers (cocodataset/cocoapi#443).
    """
    if not labels:
        return -np.ones((10, 101, 0, 4, 3)), -np.ones((10, 0, 4, 3))
    from pycocotools.cocoeval import COCOeval

    ids = dataset.image_ids
    by_id = sorted(range(len(ids)), key=lambda index: (isinstance(ids[index], str), ids[index]))
    image_id = np.empty(len(by_id), dtype=np.int64)
    image_id[by_id] = np.arange(1, len(by_id) + 1)  # COCOeval breaks ties of score by the order of the images' ids
    category_id = np.zeros(len(dataset.categories), dtype=np.int64)  # 0: not scored
    category_id[labels] = np.arange(1, len(labels) + 1)
    found_boxes = detections.boxes.astype(np.float64)  # a float32 area can fall on the other side of 32^2

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress; stdout is for our result
        truth = _coco(
            len(image_id),
            len(labels),
            category_id[dataset.box_label] > 0,
            image_id=image_id[dataset.box_image],
            category_id=category_id[dataset.box_label],
            bbox=dataset.boxes,
            area=dataset.area,
            iscrowd=dataset.iscrowd.astype(np.int64),
        )
        found = _coco(
            len(image_id),
            len(labels),
            category_id[detections.label] > 0,
            image_id=image_id[detections.image],
            category_id=category_id[detections.label],
            bbox=found_boxes,
            area=found_boxes[:, 2] * found_boxes[:, 3],
            score=detections.scores,
        )
        engine = COCOeval(truth, found, "bbox")
        engine.evaluate()
        engine.accumulate()
    return engine.eval["precision"], engine.eval["recall"]


def _coco(n_images: int, n_categories: int, keep: Bools, **columns: Floats | Ints) -> COCO:
    """pycocotools' index of the rows in `keep`, all ids counted from 1.

    `COCO.loadRes` is not used: it fails on an empty list and adds a polygon to every detection.
    """
    from pycocotools.coco import COCO

    rows = zip(*(column[keep].tolist() for column in columns.values()), strict=True)
    index = COCO()
    index.dataset = {
        "images": [{"id": number} for number in range(1, n_images + 1)],
        "categories": [{"id": number} for number in range(1, n_categories + 1)],
        "annotations": [dict(zip(columns, row, strict=True), id=number) for number, row in enumerate(rows, start=1)],
    }
    index.createIndex()
    return index
