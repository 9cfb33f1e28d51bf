"""The anchors of a resized and padded picture: their shapes, their places on each level, and how many there are.

Shapes: as in anchors/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcli.errors import FocalError

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LEVELS = ("P3", "P4", "P5", "P6", "P7")
PAD = 32  # torchvision pads a batch to multiples of this


@dataclass(frozen=True)
class AnchorSpec:
    """The anchor shapes of the five levels.

    Attributes:
        sizes: base side of the anchors of P3 to P7, in pixels at network size; each level also has the sizes
            2^(1/3) and 2^(2/3) times as large, cut to whole pixels as torchvision cuts them.
        ratios: height / width.
    """

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if len(self.sizes) != len(LEVELS) or min(self.sizes) <= 0 or not self.ratios or min(self.ratios) <= 0:
            raise FocalError(
                f"anchors: sizes {list(self.sizes)} and ratios {list(self.ratios)} do not make an anchor grid",
                "expected five positive sizes, one for each of P3 to P7, and at least one positive ratio",
            )

    @property
    def level_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """The three sizes of each level, in the form that torchvision's AnchorGenerator takes."""
        return tuple((int(s), int(s * 2 ** (1.0 / 3)), int(s * 2 ** (2.0 / 3))) for s in self.sizes)

    @property
    def per_cell(self) -> int:
        return 3 * len(self.ratios)

    @cached_property
    def shapes(self) -> Floats32:
        """(L, A, 4) xyxy of the anchors around (0, 0), rounded to whole pixels."""
        h_ratios = np.sqrt(np.array(self.ratios, dtype=np.float32))
        w_ratios = np.float32(1.0) / h_ratios
        levels = []
        for sizes in self.level_sizes:
            scales = np.array(sizes, dtype=np.float32)
            ws, hs = (w_ratios[:, None] * scales).ravel(), (h_ratios[:, None] * scales).ravel()
            levels.append(np.round(np.stack([-ws, -hs, ws, hs], axis=1) / np.float32(2.0)))
        return np.stack(levels)


def network_size(wh: Ints, min_size: int, max_size: int) -> Ints:
    """(I, 2) width and height after the resize: short side min_size unless the long side would pass max_size."""
    short, long = wh.min(axis=1), wh.max(axis=1)
    scale = np.minimum(min_size / short, max_size / long)
    return np.floor(wh * scale[:, None]).astype(np.int64)


def padded(size: Ints) -> Ints:
    """Width and height of the batch that pictures of this size travel in."""
    return -(-size // PAD) * PAD


def resize_boxes(boxes: npt.NDArray[Any], old_wh: Ints, new_wh: Ints) -> Floats32:
    """(B, 4) xyxy in pixels of the resized picture; float32 throughout, as in torchvision."""
    ratio = new_wh.astype(np.float32) / old_wh.astype(np.float32)
    return boxes.astype(np.float32) * np.concatenate([ratio, ratio], axis=-1)


def grids(batch_wh: Ints) -> Ints:
    """(I, L, 4) rows, columns, vertical and horizontal stride of the feature maps of a padded picture.

    P3 to P5 halve the picture rounding up, P6 and P7 are strided convolutions on top. The stride is the picture's side
    over the map's, rounded down: where 128 does not divide the side, P7's stride is not 128 (torchvision's way).
    """
    columns, rows = batch_wh[:, 0], batch_wh[:, 1]
    levels = []
    for level in range(7):
        columns, rows = -(-columns // 2), -(-rows // 2)
        if level >= 2:
            levels.append(np.stack([rows, columns, batch_wh[:, 1] // rows, batch_wh[:, 0] // columns], axis=1))
    return np.stack(levels, axis=1)


def anchors_of(spec: AnchorSpec, grid: Ints) -> Floats32:
    """(N, 4) xyxy of every anchor of one picture, in the order of the head's outputs. grid: (L, 4) as from grids()."""
    levels = []
    for (rows, columns, stride_y, stride_x), shapes in zip(grid, spec.shapes, strict=True):
        y, x = np.meshgrid(np.arange(rows) * stride_y, np.arange(columns) * stride_x, indexing="ij")
        shifts = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], axis=1).astype(np.float32)
        levels.append((shifts[:, None] + shapes[None]).reshape(-1, 4))
    return np.concatenate(levels)


def anchors_per_level(spec: AnchorSpec, grid: Ints) -> Ints:
    """(I, L) how many anchors each picture has on each level. grid: (I, L, 4)."""
    return grid[:, :, 0] * grid[:, :, 1] * spec.per_cell


def anchors_per_image(spec: AnchorSpec, grid: Ints) -> Ints:
    """(I,) how many anchors each picture has. grid: (I, L, 4)."""
    return anchors_per_level(spec, grid).sum(axis=1)


def first_anchor(grid: Ints, spec: AnchorSpec) -> Ints:
    """(I, L) index of the first anchor of each level."""
    count = anchors_per_level(spec, grid)
    return np.cumsum(count, axis=1) - count
