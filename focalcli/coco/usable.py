"""From columns as they stand in the file to those that can be used, with a Defect for all that is left out or odd.

Each check looks at whole columns; a loop runs only over the rows that it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from focalcli.coco.dataset import Bools, Category, Defect, Floats, Id, Ids, Ints

MOST_PX = 1_000_000  # a side beyond it is a typing error, not a picture
_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")  # whole numbers written as str() writes them
Note = Callable[[str, int, str], None]


def unique_categories(ids: Ids, names: Ids, defects: list[Defect]) -> tuple[Category, ...]:
    """Sorted by id, the first of each."""
    by_id: dict[Id, Category] = {}
    for category_id, name in zip(ids.tolist(), names.tolist(), strict=True):
        if category_id in by_id:
            text = f"category id {category_id} names both {by_id[category_id].name!r} and {name!r}"
            defects.append(Defect("F201", text))
        else:
            by_id[category_id] = Category(category_id, name or str(category_id))
            if not name:
                defects.append(Defect("F204", f"category {category_id} has no name; its id is used"))
    ordered = sorted(by_id.values(), key=lambda c: (isinstance(c.id, str), c.id))
    first: dict[str, Id] = {}
    for category in ordered:
        if category.name in first:
            text = f"categories {first[category.name]} and {category.id} are both {category.name!r}"
            defects.append(Defect("F202", text))
        first.setdefault(category.name, category.id)
    kinds = [(isinstance(category_id, str), category_id) for category_id in by_id]
    late = [after[1] for before, after in pairwise(kinds) if after < before]
    if late:
        defects.append(Defect("F208", f"category {late[0]!r} stands after one with a higher id", count=len(late)))
    return tuple(ordered)


def unique_images(ids: Ids, names: Ids, widths: Ids, heights: Ids, defects: list[Defect]) -> tuple[Ids, Ids, Ints]:
    """Ids, names and (I, 2) sizes of the first entry of each id; the size is 0 where the file gives no usable one."""
    first = _first_rows(ids)
    repeated = first != np.arange(len(ids))
    usable = (np.minimum(widths, heights) > 0) & (np.maximum(widths, heights) <= MOST_PX)
    usable = usable.astype(np.bool_)  # from an object column
    nameless = (names == "").astype(np.bool_)
    for row in np.flatnonzero(repeated | nameless | ~usable).tolist():
        image_id = ids.item(row)
        if repeated[row]:
            text = f"its id is that of {names[first[row]]!r} and again of {names[row]!r}"
            defects.append(Defect("F002", text, image_id=image_id))
            continue
        if nameless[row]:
            defects.append(Defect("F303", "no file_name", image_id=image_id))
        if not usable[row]:
            text = f"size {widths[row]} x {heights[row]} in the file"
            defects.append(Defect("F301", text, image_id=image_id))
    sizes = np.stack([np.where(usable, widths, 0), np.where(usable, heights, 0)], axis=1).astype(np.int64)
    return ids[~repeated], names[~repeated], sizes[~repeated]


def usable_boxes(
    ids: Ids,
    image_ids: Ids,
    category_ids: Ids,
    boxes: Floats,
    area: Floats,
    crowd: Bools,
    states_crowd: Bools,
    ignored: Bools,
    *,
    known_images: Ids,
    image_wh: Ints,
    known_categories: Ids,
    defects: list[Defect],
) -> dict[str, Any]:
    """The (B, ...) columns of Dataset, after naming every annotation that cannot be used."""

    def note(code: str, row: int, text: str) -> None:
        defects.append(Defect(code, text, image_ids.item(row), ids.item(row)))

    _note_repeated_ids(ids, image_ids, note)
    _note_missing_keys({"iscrowd": ~states_crowd, "area": np.isnan(area)}, defects)
    for row in np.flatnonzero(ignored & ~crowd).tolist():
        note("F009", row, "`ignore` is set and `iscrowd` is not")
    image, image_by_twin = _positions(image_ids, known_images)
    label, label_by_twin = _positions(category_ids, known_categories)
    for row in np.flatnonzero(image < 0).tolist():
        note("F003", row, f"image_id {image_ids.item(row)!r} is not in `images`")
    for row in np.flatnonzero(label < 0).tolist():
        note("F203", row, f"category_id {category_ids.item(row)!r} is not in `categories`")
    for key, column, by_twin in (("image_id", image_ids, image_by_twin), ("category_id", category_ids, label_by_twin)):
        for row in by_twin:
            value = column.item(row)
            kinds = ("text", "a number") if isinstance(value, str) else ("a number", "text")
            note("F105", row, f"`{key}` {value!r} is {kinds[0]} here and {kinds[1]} in the entry that it names")

    usable = (image >= 0) & (label >= 0)
    usable &= ~_note_unusable(boxes, image, image_wh, usable, note)
    good_area = np.isfinite(area) & (area > 0)  # NaN: a missing one; infinite: one that the slow reading has named
    for row in np.flatnonzero(usable & ~good_area & np.isfinite(area)).tolist():
        note("F106", row, f"`area` is {area[row]:g}; width x height is used")
    with np.errstate(over="ignore", invalid="ignore"):  # of boxes that are not usable
        area = np.where(good_area, area, boxes[:, 2] * boxes[:, 3])
    keep = slice(None) if usable.all() else usable  # a slice copies nothing
    return {
        "annotation_ids": ids[keep],
        "box_image": image[keep],
        "box_label": label[keep],
        "boxes": boxes[keep],
        "area": area[keep],
        "iscrowd": crowd[keep],
    }


def _first_rows(ids: Ids) -> Ints:
    """(N,) the first row with the same id; a row's own number where no earlier one has it."""
    rows = np.arange(len(ids))
    if ids.dtype == object:
        place: dict[Id, int] = {}
        return np.fromiter((place.setdefault(v, n) for n, v in enumerate(ids.tolist())), dtype=np.int64, count=len(ids))
    ordered = np.sort(ids)
    if not (ordered[1:] == ordered[:-1]).any():
        return rows
    _, first, group = np.unique(ids, return_index=True, return_inverse=True)
    return first[group]


def _note_repeated_ids(ids: Ids, image_ids: Ids, note: Note) -> None:
    first = _first_rows(ids)
    for row in np.flatnonzero(first != np.arange(len(ids))).tolist():
        where = image_ids.item(first[row])
        same = "this image" if where == image_ids.item(row) else f"image {where}"
        note("F001", row, f"its id is that of an annotation of {same} already")


def _note_missing_keys(lacking: Mapping[str, Bools], defects: list[Defect]) -> None:
    """One Defect for the whole file: it is the habit of a tool, not a slip in a record."""
    either = np.any(list(lacking.values()), axis=0)
    if either.any():
        words = [f"`{key}` is missing in {rows.sum():,}" for key, rows in lacking.items() if rows.any()]
        text = f"{' and '.join(words)} of {len(either):,} annotations"
        defects.append(Defect("F008", text, count=int(either.sum())))


def _positions(found: Ids, known: Ids) -> tuple[Ints, list[int]]:
    """(B,) where each id stands in `known`, -1 where it does not; and the rows found as text for a number, or so."""
    if found.dtype != object and known.dtype != object:
        if not len(known):
            return np.full(len(found), -1), []
        order = np.argsort(known)
        near = order[np.searchsorted(known, found, sorter=order).clip(max=len(known) - 1)]
        return np.where(known[near] == found, near, -1), []
    place = {value: index for index, value in enumerate(known.tolist())}
    values = found.tolist()
    positions = np.fromiter((place.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    by_twin = []
    for row in np.flatnonzero(positions < 0).tolist():
        value = values[row]
        twin = str(value) if isinstance(value, int) else int(value) if _INTEGER.fullmatch(value) else None
        if twin in place:
            positions[row] = place[twin]
            by_twin.append(row)
    return positions, by_twin


def _note_unusable(boxes: Floats, image: Ints, image_wh: Ints, known: Bools, note: Note) -> Bools:
    """(B,) True where a box of a known image cannot be trained on or scored; the file's order is that of the notes."""
    x, y, w, h = boxes.T
    width, height = image_wh[image].T  # of unknown images those of the last one, which `known` leaves out
    with np.errstate(over="ignore", invalid="ignore"):
        endless = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(w * h))
        # the last two: so small that its corners are one number
        empty = (w <= 0) | (h <= 0) | (x + w <= x) | (y + h <= y)
        outside = (x + w <= 0) | (y + h <= 0) | ((width > 0) & (x >= width)) | ((height > 0) & (y >= height))
    unusable = known & (endless | empty | outside)
    for row in np.flatnonzero(unusable).tolist():
        numbers = boxes[row].tolist()
        text = f"[{', '.join(f'{value:g}' for value in numbers)}]"
        if endless[row]:
            note("F102", row, f"box {text} is not finite")
        elif empty[row]:
            note("F101", row, f"box {numbers[2]:g} x {numbers[3]:g} has no area")
        else:
            note("F103", row, f"box {text} lies outside its {width[row]} x {height[row]} picture")
    return unusable
