"""Where the cells of feature maps lie in a table, and which of them a few outputs of a head depend on.

A table holds the cells of N pictures one picture after another, its levels from fine to coarse, rows from the top, as
anchors.anchors_of orders them; its last row, R, is zeros and stands for everything outside of the maps. Maps are cut
into tiles of 4 x 4 cells; the window of a tile is what a 3x3 convolution reads for it, 6 x 6 cells (winograd.py).
Shapes: a table is (R + 1, C); T tiles.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TILE, WINDOW = 4, 6
Sizes = tuple[tuple[int, int], ...]  # height and width of each level, in cells


@dataclass(frozen=True)
class Tiles:
    """Some tiles, or all of them (`whole`): the rows of each window, (T, 36), and of each tile, (T, 16)."""

    windows: Tensor
    cells: Tensor
    whole: bool = False

    def __len__(self) -> int:
        return len(self.windows)


@dataclass(frozen=True)
class Layout:
    """How the maps of some pictures lie in a table.

    Attributes:
        every: all tiles.
        place_of: (R + 1,) where a cell is found in every.cells.flatten().
    """

    every: Tiles
    place_of: Tensor

    def towards(self, cells: Tensor, convolutions: int) -> list[Tiles]:
        """What each of so many 3x3 convolutions, the first one first, has to compute for the last one to be right at
        `cells`, (M,)."""
        steps = []
        for _ in range(convolutions):
            chosen = self.place_of[cells].div(TILE * TILE, rounding_mode="floor").unique()
            steps.append(Tiles(self.every.windows[chosen], self.every.cells[chosen]))
            cells = self.read_for(cells)
        return steps[::-1]

    def around(self, cells: Tensor) -> Tensor:
        """(M, 9) what a 3x3 convolution reads for its outputs at `cells`, (M,)."""
        place = self.place_of[cells]
        tile, row, column = place // (TILE * TILE), place // TILE % TILE, place % TILE
        corner = tile * WINDOW * WINDOW + row * WINDOW + column
        three_by_three = torch.arange(3)[:, None] * WINDOW + torch.arange(3)
        return self.every.windows.flatten()[corner[:, None] + three_by_three.flatten()]

    def read_for(self, cells: Tensor) -> Tensor:
        """The same without repetition and without what is outside, ascending."""
        read = torch.zeros(len(self.place_of), dtype=torch.bool)
        read[self.around(cells).flatten()] = True
        read[-1] = False
        return read.nonzero().flatten()


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # a prediction may ask first, and training then uses the same tensors
def layout(pictures: int, sizes: Sizes) -> Layout:
    """The layout of so many pictures' levels."""
    per_picture = sum(height * width for height, width in sizes)
    outside = pictures * per_picture
    windows, first = [], 0
    for height, width in sizes:
        framed = np.full((pictures, -(-height // TILE) * TILE + 2, -(-width // TILE) * TILE + 2), outside)
        of_first = np.arange(first, first + height * width).reshape(height, width)
        framed[:, 1 : height + 1, 1 : width + 1] = of_first + per_picture * np.arange(pictures)[:, None, None]
        views = np.lib.stride_tricks.sliding_window_view(framed, (WINDOW, WINDOW), axis=(1, 2))
        windows.append(views[:, ::TILE, ::TILE].reshape(-1, WINDOW, WINDOW))
        first += height * width
    read = np.concatenate(windows)
    made = read[:, 1:-1, 1:-1].reshape(-1, TILE * TILE)
    place_of = np.zeros(outside + 1, dtype=np.int64)
    place_of[made.flatten()] = np.arange(made.size)
    every = Tiles(torch.from_numpy(read.reshape(len(read), -1)), torch.from_numpy(made), whole=True)
    return Layout(every, torch.from_numpy(place_of))


def table_of(levels: Sequence[Tensor]) -> Tensor:
    """(R + 1, C) of the levels, each (N, C, h, w)."""
    flat = [level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels]
    parts = [maps[picture] for picture in range(len(flat[0])) for maps in flat]
    return torch.cat([*parts, flat[0].new_zeros(1, flat[0].shape[2])])


def levels_of(table: Tensor, pictures: int, sizes: Sizes) -> list[Tensor]:
    """The levels of a table, each (N, C, h, w)."""
    flat = table[:-1].view(pictures, -1, table.shape[1]).split([height * width for height, width in sizes], dim=1)
    return [maps.transpose(1, 2).unflatten(2, size) for maps, size in zip(flat, sizes, strict=True)]


def sizes_of(levels: Sequence[Tensor]) -> Sizes:
    return tuple((level.shape[2], level.shape[3]) for level in levels)
