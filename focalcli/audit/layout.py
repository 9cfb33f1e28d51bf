"""Where the boxes of a split lie, and how many share a picture. Crowds (iscrowd) are left out.

Shapes: B boxes, HEAT_CELLS x HEAT_CELLS cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from focalcli.audit.figures import HEAT_CELLS, MAX_DETECTIONS, ClassScale, Layout
from focalcli.audit.pairs import Pairs
from focalcli.coco import Dataset, Ints


def find_layout(dataset: Dataset, pairs: Pairs, scales: Sequence[ClassScale]) -> Layout:
    """pairs: of the dataset. scales: of its classes."""
    per_image = np.bincount(pairs.image, weights=pairs.objects, minlength=len(dataset.image_ids)).astype(np.int64)
    objects, images = np.unique(per_image, return_counts=True)
    return Layout(
        heat=tuple(map(tuple, _heat(dataset).tolist())),
        at_border=sum(scale.at_border for scale in scales),
        objects_per_image=tuple(zip(objects.tolist(), images.tolist(), strict=True)),
        crowded=len(set(pairs.image[pairs.objects > MAX_DETECTIONS].tolist())),
    )


def _heat(dataset: Dataset) -> Ints:
    """(HEAT_CELLS, HEAT_CELLS) boxes that cover each cell's centre: four corners a box, then two running sums."""
    used = ~dataset.iscrowd & (dataset.image_wh > 0).all(axis=1)[dataset.box_image]
    per_px = HEAT_CELLS / np.maximum(dataset.image_wh, 1)  # (I, 2)
    cells = []
    for corner, axis in zip(dataset.boxes_xyxy.T, (0, 1, 0, 1), strict=True):
        place = corner[used] * per_px[:, axis][dataset.box_image[used]]
        cells.append(np.ceil(place - 0.5).astype(np.int64))  # the first centre at or after it
    x0, y0, x1, y1 = cells
    width = HEAT_CELLS + 1
    corners = np.zeros(width * width, dtype=np.int64)
    for x, y, sign in ((x0, y0, 1), (x1, y0, -1), (x0, y1, -1), (x1, y1, 1)):
        corners += sign * np.bincount(y * width + x, minlength=width * width)
    return corners.reshape(width, width).cumsum(axis=0).cumsum(axis=1)[:HEAT_CELLS, :HEAT_CELLS]
