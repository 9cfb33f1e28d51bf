"""Detections -> COCO results JSON."""

from __future__ import annotations

import msgspec

from focalcli.coco import Dataset
from focalcli.detections.arrays import Detections
from focalcli.detections.reading import Record


def results_json(detections: Detections, dataset: Dataset) -> bytes:
    """COCO results JSON with the dataset's own ids: `load_detections` of it gives `detections.rounded()`."""
    rounded = detections.rounded()
    category_ids = [category.id for category in dataset.categories]
    columns = (rounded.image, rounded.label, rounded.boxes, rounded.scores)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return msgspec.json.encode(
        [Record(dataset.image_ids[image], category_ids[label], tuple(box), score) for image, label, box, score in rows]
    )
