"""COCO JSON -> Dataset: frozen, columnar numpy arrays and the list of every defect met on the way.

Nothing is repaired silently. What cannot be used (a box without area, an annotation of an unknown image) is left out of
the arrays and named in `Dataset.defects`; what can be used although it is odd (a number written as text) is used and
named too. Codes are those of audit.py.

Shapes: I images, B usable boxes, K categories. Boxes are xywh in pixels of the original picture, as in the file.
Source of the format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from focalcli.errors import FocalError
from focalcli.lenient import Defect, Id, decode_leniently

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST_PX = 1_000_000  # a side beyond it is a typing error, not a picture
_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")  # whole numbers written as str() writes them
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


@dataclass(frozen=True)
class Dataset:
    """One split. Arrays are read-only; `boxes` and the other (B, ...) arrays are in the order of the file.

    Attributes:
        categories: K, sorted by id (as COCOeval sorts them), names kept with the ids.
        image_ids: I ids as in the file, in its order; `image_wh` is (I, 2), 0 where the file does not say.
        box_image: (B,) index into image_ids. box_label: (B,) index into categories.
        boxes: (B, 4) xywh, positive width and height. area: (B,) the file's own area, w * h where it has none.
        iscrowd: (B,) True for regions that are neither object nor background.
    """

    path: Path
    image_root: Path
    sha256: str
    categories: tuple[Category, ...]
    image_ids: tuple[Id, ...]
    file_names: tuple[str, ...]
    image_wh: Ints
    annotation_ids: tuple[Id, ...]
    box_image: Ints
    box_label: Ints
    boxes: Floats
    area: Floats
    iscrowd: Bools
    defects: tuple[Defect, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for array in (self.image_wh, self.box_image, self.box_label, self.boxes, self.area, self.iscrowd):
            array.setflags(write=False)

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


# ------------------------------------------------------------------------------------------------- finding the files


def find_splits(path: Path) -> dict[str, Path]:
    """The annotation files of a dataset: split name -> JSON, train before val before the rest.

    Args:
        path: a COCO JSON, or a folder that holds `annotations/*.json` (COCO, CVAT, focal), `*/_annotations.coco.json`
            (Roboflow) or `*.json`.

    Raises:
        FocalError: nothing there, or no annotation file in the folder.
    """
    if not path.exists():
        raise FocalError(f"{path}: no such file or folder", "give a COCO JSON, or a folder with annotations/*.json")
    if path.is_file():
        return {_split_name(path): path}
    # instances_* first: COCO keeps captions and keypoints of the same pictures beside them
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*/_annotations.coco.json", "*.json"):
        found = sorted(path.glob(pattern))
        if found:
            order = ("train", "val", "valid", "test")
            named = sorted((_rank(_split_name(file), order), _split_name(file), file) for file in found)
            return {name: file for _, name, file in named}
    raise FocalError(
        f"{path}: no COCO annotation file in this folder",
        "expected annotations/train.json (and val.json), train/_annotations.coco.json, or give the JSON itself",
    )


def _rank(name: str, order: tuple[str, ...]) -> int:
    return next((rank for rank, word in enumerate(order) if name.startswith(word)), len(order))


def _split_name(file: Path) -> str:
    if file.name == "_annotations.coco.json":
        return file.parent.name
    return file.stem.removeprefix("instances_")


def find_image_root(file: Path, file_names: tuple[str, ...]) -> Path:
    """The folder that the file_names are relative to: the first usual place that holds one of the first pictures."""
    split = _split_name(file)
    base = file.parent.parent if file.parent.name == "annotations" else file.parent
    places = [base / "images" / split, base / split, base / "images", base, file.parent]
    safe = [name for name in file_names[:8] if not escapes_root(name)]
    for place in places:
        if any(os.path.isfile(place / name) for name in safe):  # unlike Path.is_file it takes names too long for a file
            return place
    return next((place for place in places if place.is_dir()), file.parent)


# --------------------------------------------------------------------------------------------------------- reading


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int = 0
    height: int = 0


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def load(path: Path, images: Path | None = None) -> Dataset:
    """Read one COCO JSON.

    Args:
        path: the file.
        images: the folder that the file_names are relative to; found beside the file when not given.

    Raises:
        FocalError: missing, unreadable, not JSON (with the place), not COCO, or without a single image.
    """
    data = _read_bytes(path)
    defects: list[Defect] = []
    try:
        raw: Any = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, RecursionError):  # a ValidationError, of one record perhaps, is a DecodeError
        raw = decode_leniently(path, data, defects)
    for key in ("images", "categories"):
        if not getattr(raw, key):
            unusable = f" that can be used ({defects[0].text})" if defects else ""
            raise FocalError(f"{path}: no {key}{unusable}", f"a dataset needs at least one entry in `{key}`")

    categories = _unique_categories(raw.categories, defects)
    kept_images = _unique_images(raw.images, defects)
    file_names = tuple(image.file_name for image in kept_images)
    image_ids, image_wh = tuple(image.id for image in kept_images), _sizes(kept_images)
    columns = _usable_boxes(raw.annotations, image_ids, image_wh, categories, defects)
    return Dataset(
        path=path,
        image_root=images if images is not None else find_image_root(path, file_names),
        sha256=hashlib.sha256(data).hexdigest(),
        categories=categories,
        image_ids=image_ids,
        file_names=file_names,
        image_wh=image_wh,
        defects=tuple(defects),
        **columns,
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FocalError(f"{path}: no such file", "give the path of a COCO JSON file") from None
    except IsADirectoryError:
        raise FocalError(f"{path}: is a folder, not a COCO JSON", "give one of the JSON files in it") from None
    except OSError as error:
        raise FocalError(f"{path}: cannot be read ({error.strerror})", "check the file's permissions") from None


def _unique_categories(raw: list[Any], defects: list[Defect]) -> tuple[Category, ...]:
    by_id: dict[Id, Category] = {}
    for entry in raw:
        if entry.id in by_id:
            text = f"category id {entry.id} names both {by_id[entry.id].name!r} and {entry.name!r}"
            defects.append(Defect("F201", text))
        else:
            by_id[entry.id] = Category(entry.id, entry.name or str(entry.id))
            if not entry.name:
                defects.append(Defect("F204", f"category {entry.id} has no name; its id is used"))
    ordered = sorted(by_id.values(), key=lambda c: (isinstance(c.id, str), c.id))
    names: dict[str, Id] = {}
    for category in ordered:
        if category.name in names:
            text = f"categories {names[category.name]} and {category.id} are both {category.name!r}"
            defects.append(Defect("F202", text))
        names.setdefault(category.name, category.id)
    return tuple(ordered)


def _unique_images(raw: list[Any], defects: list[Defect]) -> list[Any]:
    by_id: dict[Id, Any] = {}
    for entry in raw:
        if entry.id in by_id:
            text = f"its id is that of {by_id[entry.id].file_name!r} and again of {entry.file_name!r}"
            defects.append(Defect("F002", text, image_id=entry.id))
            continue
        by_id[entry.id] = entry
        if not entry.file_name:
            defects.append(Defect("F303", "no file_name", image_id=entry.id))
        if not _usable_size(entry):
            text = f"size {entry.width} x {entry.height} in the file"
            defects.append(Defect("F301", text, image_id=entry.id))
    return list(by_id.values())


def _sizes(images: list[Any]) -> Ints:
    """(I, 2) width and height, both 0 where the file gives no usable size."""
    return np.array([(i.width, i.height) if _usable_size(i) else (0, 0) for i in images], dtype=np.int64)


def _usable_size(image: Any) -> bool:
    return min(image.width, image.height) > 0 and max(image.width, image.height) <= MOST_PX


def _usable_boxes(
    raw: list[Any], image_ids: tuple[Id, ...], image_wh: Ints, categories: tuple[Category, ...], defects: list[Defect]
) -> dict[str, Any]:
    """The (B, ...) columns of Dataset, after naming every annotation that cannot be used."""

    def note(code: str, row: int, text: str) -> None:
        defects.append(Defect(code, text, raw[row].image_id, raw[row].id))

    _note_repeated_ids(raw, note)
    image, image_by_twin = _positions([record.image_id for record in raw], image_ids)
    label, label_by_twin = _positions([record.category_id for record in raw], [category.id for category in categories])
    for row in np.flatnonzero(image < 0):
        note("F003", row, f"image_id {raw[row].image_id!r} is not in `images`")
    for row in np.flatnonzero(label < 0):
        note("F203", row, f"category_id {raw[row].category_id!r} is not in `categories`")
    for key, by_twin in (("image_id", image_by_twin), ("category_id", label_by_twin)):
        for row in by_twin:
            value = getattr(raw[row], key)
            kinds = ("text", "a number") if isinstance(value, str) else ("a number", "text")
            note("F105", row, f"`{key}` {value!r} is {kinds[0]} here and {kinds[1]} in the entry that it names")

    usable = (image >= 0) & (label >= 0)
    boxes = np.array([record.bbox for record in raw], dtype=np.float64).reshape(-1, 4)
    for row in np.flatnonzero(usable):
        if problem := _box_problem(boxes[row], image_wh[image[row]]):
            note(problem[0], row, problem[1])
            usable[row] = False
    area = np.array([math.nan if record.area is None else record.area for record in raw], dtype=np.float64)
    good_area = np.isfinite(area) & (area > 0)
    for row in np.flatnonzero(usable & ~good_area):
        if raw[row].area is not None:
            note("F106", row, f"`area` is {raw[row].area:g}; width x height is used")
    kept = [raw[row] for row in np.flatnonzero(usable)]
    w, h = boxes[usable, 2:].T
    return {
        "annotation_ids": tuple(record.id for record in kept),
        "box_image": image[usable],
        "box_label": label[usable],
        "boxes": boxes[usable],
        "area": np.where(good_area[usable], area[usable], w * h),
        "iscrowd": np.array([bool(record.iscrowd) for record in kept], dtype=np.bool_),
    }


def _note_repeated_ids(raw: list[Any], note: Callable[[str, int, str], None]) -> None:
    first: dict[Id, Any] = {}
    for row, record in enumerate(raw):
        if first.setdefault(record.id, record) is not record:
            where = first[record.id].image_id
            same = "this image" if where == record.image_id else f"image {where}"
            note("F001", row, f"its id is that of an annotation of {same} already")


def _positions(found: Sequence[Id], known: Sequence[Id]) -> tuple[Ints, list[int]]:
    """(B,) where each id stands in `known`, -1 where it does not; and the rows found as text for a number, or so."""
    place = {value: index for index, value in enumerate(known)}
    positions = np.fromiter((place.get(value, -1) for value in found), dtype=np.int64, count=len(found))
    by_twin = []
    for row in np.flatnonzero(positions < 0):
        value = found[row]
        twin = str(value) if isinstance(value, int) else int(value) if _INTEGER.fullmatch(value) else None
        if twin in place:
            positions[row] = place[twin]
            by_twin.append(int(row))
    return positions, by_twin


def _box_problem(box: Floats, image_wh: Ints) -> tuple[str, str] | None:
    """(code, text) when a box cannot be trained on or scored. Plain floats: one box costs 1 us, numpy scalars 10."""
    x, y, w, h = box.tolist()
    width, height = image_wh.tolist()
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(w * h) and math.isfinite(w) and math.isfinite(h)):
        return "F102", f"box {_text(box)} is not finite"
    if w <= 0 or h <= 0 or x + w <= x or y + h <= y:  # the last two: so small that its corners are one number
        return "F101", f"box {w:g} x {h:g} has no area"
    if x + w <= 0 or y + h <= 0 or 0 < width <= x or 0 < height <= y:
        return "F103", f"box {_text(box)} lies outside its {width} x {height} picture"
    return None


def _text(box: Floats) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
