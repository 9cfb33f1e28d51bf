"""What a COCO file becomes: frozen, columnar arrays, and the list of every defect met on the way.

Shapes: I images, B usable boxes, K categories. Boxes are xywh in pixels of the original picture, as in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from focalcli.coco.source import sha256_of
from focalcli.errors import FocalError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[Any]  # int64; object where an id is text, or too large for 64 bits
Id = int | str
Group = Literal["rare", "common", "frequent"]

# LVIS (Gupta et al. 2019, arXiv:1908.03195, sec. 4) groups classes by the training images that hold them
GROUP_IMAGES: dict[Group, tuple[int, int | None]] = {"rare": (1, 10), "common": (11, 100), "frequent": (101, None)}


def frequency_group(images: int | None) -> Group | None:
    """LVIS's group of a class with so many training images; None for none or an unknown number."""
    for group, (low, high) in GROUP_IMAGES.items():
        if images is not None and images >= low and (high is None or images <= high):
            return group
    return None


@dataclass(frozen=True)
class Category:
    """One entry of `categories`."""

    id: Id
    name: str


@dataclass(frozen=True, slots=True)
class Defect:
    """One oddity of one record of the file, or of `count` of them, under the code of the rule that explains it."""

    code: str
    text: str
    image_id: Id | None = None
    annotation_id: Id | None = None
    count: int = 1


@dataclass(frozen=True)
class Dataset:
    """One split. Arrays are read-only; `boxes` and the other (B, ...) arrays are in the order of the file.

    Attributes:
        categories: K, sorted by id (as COCOeval sorts them), names kept with the ids.
        image_ids: I ids as in the file, in its order; `image_wh` is (I, 2), 0 where the file does not say.
        annotation_ids: (B,) as in the file: int64, or Python's own values where one is text or beyond 64 bits.
        box_image: (B,) index into image_ids. box_label: (B,) index into categories.
        boxes: (B, 4) xywh, positive width and height. area: (B,) the file's own area, w * h where it has none.
        iscrowd: (B,) True for regions that are neither object nor background.
        digest: `sha256` of what came through a pipe and cannot be read again.
    """

    path: Path
    image_root: Path
    categories: tuple[Category, ...]
    image_ids: tuple[Id, ...]
    file_names: tuple[str, ...]
    image_wh: Ints
    annotation_ids: Ids
    box_image: Ints
    box_label: Ints
    boxes: Floats
    area: Floats
    iscrowd: Bools
    defects: tuple[Defect, ...] = field(default=(), repr=False)
    digest: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array.setflags(write=False)

    @cached_property
    def sha256(self) -> str:
        """Of the file as it lies there, packed where it is packed. Read when first asked for: 450 MB take 0.3 s."""
        return self.digest or sha256_of(self.path)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)

    @cached_property
    def objects_per_class(self) -> Ints:
        """(K,) boxes of each category, crowds left out."""
        return np.bincount(self.box_label[~self.iscrowd], minlength=len(self.categories))

    @cached_property
    def images_per_class(self) -> Ints:
        """(K,) images that hold at least one object of each category, crowds left out."""
        keep = ~self.iscrowd
        pairs = np.unique(self.box_image[keep] * max(1, len(self.categories)) + self.box_label[keep])
        return np.bincount(pairs % max(1, len(self.categories)), minlength=len(self.categories))

    @cached_property
    def boxes_xyxy(self) -> Floats:
        """(B, 4) corners, clipped to pictures of known size; the loader dropped what lies wholly outside."""
        x, y, w, h = self.boxes.T
        corners = np.stack([x, y, x + w, y + h], axis=1)
        limit = np.where(self.image_wh > 0, self.image_wh, np.inf)[self.box_image]
        return np.clip(corners, 0.0, np.concatenate([limit, limit], axis=1))

    @cached_property
    def _real_root(self) -> Path:
        return self.image_root.resolve()

    def image_path(self, index: int) -> Path:
        """Where picture `index` lies, always below image_root.

        Raises:
            FocalError: the file_name is absolute, climbs out of the image root, or is a URL.
        """
        name = self.file_names[index]
        path = self.image_root / name
        if escapes_root(name) or not path.resolve().is_relative_to(self._real_root):
            raise FocalError(
                f"{self.path}: image {self.image_ids[index]}: file_name {name!r} leads out of {self.image_root}",
                "file_name must be relative to the image folder; `--images DIR` names another folder",
            )
        return path


def escapes_root(file_name: str) -> bool:
    """True for names that could open something outside the image root (absolute, `..`, a drive, a URL)."""
    parts = file_name.replace("\\", "/").split("/")
    return not parts[0] or ".." in parts or file_name[1:2] == ":" or "://" in file_name or "\0" in file_name
