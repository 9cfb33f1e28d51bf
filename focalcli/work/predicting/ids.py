"""Pictures -> a Dataset without boxes, for a detector: sizes from the headers, ids of our own or of a COCO file.

COCO results name pictures by id. Without a file that gives ids they are 1, 2, 3 ... in the order of the paths.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from focalcli.audit.checks.headers import UNREADABLE, read_header, said
from focalcli.coco import Category, Dataset
from focalcli.errors import FocalError
from focalcli.work.predicting.pictures import Found

QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF's orientation: they swap width and height


@dataclass(frozen=True)
class Pictures(Dataset):
    """A dataset without boxes, of pictures that lie where the user said, wherever links lead.

    Attributes:
        places: of each picture, as the user would write it.
    """

    places: tuple[str, ...] = ()

    def image_path(self, index: int) -> Path:
        """Where picture `index` lies."""
        return Path(self.places[index])

    def without(self, indices: Collection[int]) -> Pictures:
        """The same without some of the pictures; the others keep their ids."""
        kept = [index for index in range(len(self.places)) if index not in indices]
        columns = {
            name: tuple(getattr(self, name)[index] for index in kept) for name in ("image_ids", "file_names", "places")
        }
        return replace(self, image_wh=self.image_wh[kept], **columns)


@dataclass(frozen=True)
class Unreadable:
    """A picture that is none. place: as the user would write it. reason: why it cannot be read."""

    place: str
    reason: str


def numbered(found: Found, categories: Sequence[Category]) -> tuple[Pictures, list[Unreadable]]:
    """The pictures with the ids 1, 2, 3 ... and their sizes as they are displayed (EXIF), and those without a size."""
    sizes, unreadable = [], []
    for path in found.paths:
        try:
            sizes.append(_displayed_size(path))
        except UNREADABLE as error:
            sizes.append(None)
            unreadable.append(Unreadable(path, said(error).removesuffix(f" {path!r}")))
    kept = [index for index, size in enumerate(sizes) if size is not None]
    ids = [index + 1 for index in kept]
    wh = np.array([sizes[index] for index in kept], dtype=np.int64).reshape(-1, 2)
    return _dataset(found, kept, ids, wh, tuple(categories), Path(found.root)), unreadable


def listed(found: Found, dataset: Dataset) -> tuple[Pictures, list[Unreadable]]:
    """The pictures with the ids, sizes and categories that a COCO file gives them; see `_index_of`.

    Raises:
        FocalError: the file does not list one of the pictures, or two of them are the same image of it.
    """
    by_name = defaultdict(list)
    for index, name in enumerate(dataset.file_names):
        by_name[_parts(name)[-1]].append(index)
    indices = [_index_of(path, by_name, dataset) for path in found.paths]
    if None in indices:
        first = found.paths[indices.index(None)]
        raise FocalError(
            f"{dataset.path}: lists {len(indices) - indices.count(None)} of the {len(indices)} pictures; "
            f"the first that it does not is {first}",
            "leave --dataset out for ids of their own, or give only pictures that it lists",
        )
    if len(set(indices)) < len(indices):
        order = sorted(range(len(indices)), key=lambda number: indices[number])
        one, other = next((a, b) for a, b in pairwise(order) if indices[a] == indices[b])
        raise FocalError(
            f"{dataset.path}: {found.paths[one]} and {found.paths[other]} are both its "
            f"{dataset.file_names[indices[one]]!r}",
            "give only one of them",
        )
    wh, unreadable = dataset.image_wh[indices].copy(), []
    for number in np.flatnonzero((wh <= 0).any(axis=1)).tolist():
        path = found.paths[number]
        try:
            wh[number] = _displayed_size(path)
        except UNREADABLE as error:
            unreadable.append(Unreadable(path, said(error).removesuffix(f" {path!r}")))
    kept = np.flatnonzero((wh > 0).all(axis=1)).tolist()
    ids = [dataset.image_ids[indices[number]] for number in kept]
    return _dataset(found, kept, ids, wh[kept], dataset.categories, dataset.path), unreadable


def _index_of(path: str, by_name: dict[str, list[int]], dataset: Dataset) -> int | None:
    """Of the file_names that the path ends in the longest; else the only one of the same last part; else None."""
    parts = _parts(os.path.abspath(path))
    alike = by_name.get(parts[-1], [])
    listed_as = {index: _parts(dataset.file_names[index]) for index in alike}
    ends = [index for index, name in listed_as.items() if parts[-len(name) :] == name]
    if ends:
        return max(ends, key=lambda index: len(listed_as[index]))
    return alike[0] if len(alike) == 1 else None


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _displayed_size(path: str) -> tuple[int, int]:
    header = read_header(path)
    width, height = header.size
    return (height, width) if header.orientation in QUARTER_TURNS else (width, height)


def _dataset(
    found: Found, kept: list[int], ids: list, wh: np.ndarray, categories: tuple[Category, ...], path: Path
) -> Pictures:
    return Pictures(
        path=path, image_root=Path(found.root), categories=categories, image_ids=tuple(ids),
        file_names=tuple(found.names[index] for index in kept), image_wh=wh,
        annotation_ids=np.zeros(0, np.int64), box_image=np.zeros(0, np.int64), box_label=np.zeros(0, np.int64),
        boxes=np.zeros((0, 4)), area=np.zeros(0), iscrowd=np.zeros(0, bool),
        places=tuple(found.paths[index] for index in kept),
    )  # fmt: skip
