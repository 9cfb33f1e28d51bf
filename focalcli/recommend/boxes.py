"""The boxes that training will use, at network size, and evenly drawn samples of them.

Shapes: B boxes of I pictures, K classes of the file. Sides are in pixels at network size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from focalcli import anchors
from focalcli.anchors.grid import Floats32, Ints
from focalcli.coco import Dataset
from focalcli.errors import FocalError


@dataclass(frozen=True)
class Boxes:
    """Boxes with the grids of their pictures.

    Attributes:
        xyxy: (B, 4). image: (B,) index into grid. label: (B,) 0..K-1.
        grid: (I, L, 4) as from anchors.grids, of every picture of known size, with boxes or without.
    """

    xyxy: Floats32
    image: Ints
    label: Ints
    grid: Ints

    def some(self, most: int, least_of_class: int) -> Boxes:
        """About `most` boxes, as many of each class and at least so many of it; all of a class that has fewer."""
        if len(self.xyxy) <= most:
            return self
        order = np.argsort(self.label, kind="stable")
        counts = np.bincount(self.label)
        first = np.cumsum(counts) - counts
        share = max(least_of_class, most // int((counts > 0).sum()))
        rows = [
            order[start + np.linspace(0, n - 1, min(n, share)).astype(np.int64)]
            for start, n in zip(first.tolist(), counts.tolist(), strict=True)
            if n
        ]
        keep = np.sort(np.concatenate(rows))
        return Boxes(self.xyxy[keep], self.image[keep], self.label[keep], self.grid)


def at_network_size(train: Dataset, min_size: int, max_size: int) -> Boxes:
    """The boxes that training uses: no crowds, only pictures of known size, some area when clipped.

    Raises:
        FocalError: there is none.
    """
    known = (train.image_wh > 0).all(axis=1)
    wh: Any = train.image_wh[known]
    new_wh = anchors.network_size(wh, min_size, max_size) if len(wh) else wh
    seen = known.copy()
    seen[known] = (new_wh > 0).all(axis=1)  # a strip of 1 x 10,000 px has no pixel left across
    wh, new_wh = wh[seen[known]], new_wh[seen[known]]
    corners = train.boxes_xyxy
    solid = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    keep = np.flatnonzero(~train.iscrowd & solid & seen[train.box_image])
    if not len(keep):
        raise FocalError(
            f"{train.path}: no objects to recommend for",
            f"expected a usable box in a picture of known size; `focal audit {train.path}` lists what is wrong",
        )
    image = (np.cumsum(seen) - 1)[train.box_image[keep]]
    boxes = anchors.resize_boxes(corners[keep], wh[image], new_wh[image])
    return Boxes(boxes, image, train.box_label[keep], anchors.grids(anchors.padded(new_wh)))
