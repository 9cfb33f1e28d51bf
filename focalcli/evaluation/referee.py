"""pycocotools' own precision and recall, to hold ours against: the numbers that papers report.

It is fed from our arrays with ids counted from 1: annotation id 0 and repeated ids, which it takes for "no match",
cannot bite. `labels` goes in whole and the arrays are sliced afterwards: calling COCOeval once per class gives other
numbers (cocodataset/cocoapi#443).
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Ints
from focalcli.detections import Detections
from focalcli.evaluation.matching import image_order

if TYPE_CHECKING:
    from pycocotools.coco import COCO


def precision_and_recall(dataset: Dataset, detections: Detections, labels: list[int]) -> tuple[Floats, Floats]:
    """As accumulate.precision_and_recall, from pycocotools: a hundred times the time, several times the memory."""
    from pycocotools.cocoeval import COCOeval

    image_id = image_order(dataset) + 1
    category_id = np.zeros(len(dataset.categories), dtype=np.int64)  # 0: not scored
    category_id[labels] = np.arange(1, len(labels) + 1)
    found_boxes = detections.boxes.astype(np.float64)

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress; stdout is for our result
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
    return engine.eval["precision"][..., -1], engine.eval["recall"]


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
