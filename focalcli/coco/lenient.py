"""Records with something wrong in them, read value by value, so that every defect is named and not only the first.

What can be understood (a number written as text, a whole number written 3.0) is; what cannot becomes a Defect under the
code of the audit's rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from focalcli.coco.dataset import Defect, Id
from focalcli.coco.scan import kind_of

Note = Callable[[str, str], None]
ReadValues = Callable[[dict[str, Any], Note], dict[str, Any]]


class _Unusable(Exception):
    """A record that cannot be read: (code, text)."""


def read(
    entries: list[Any], kind: str, values_of: ReadValues, start: int, defects: list[Defect]
) -> Iterator[dict[str, Any]]:
    """The values of every entry that can be used; what is odd or unusable is added to `defects`.

    Args:
        kind: image, annotation or category. start: number of the first entry in its list.
    """
    for index, entry in enumerate(entries, start):
        values = entry if isinstance(entry, dict) else {}
        image_id = values.get("id" if kind == "image" else "image_id")
        place = {
            "image_id": image_id if _is_id(image_id) else None,
            "annotation_id": values.get("id") if kind == "annotation" and _is_id(values.get("id")) else None,
        }
        try:
            if not isinstance(entry, dict):
                raise _Unusable("F004", f"it is {kind_of(entry)}, not an object")
            yield values_of(entry, lambda code, text, place=place: defects.append(Defect(code, text, **place)))
        except _Unusable as problem:
            code, text = problem.args
            defects.append(Defect(code, f"{kind} number {index}: {text}" if not any(place.values()) else text, **place))


def _is_id(value: Any) -> bool:
    return isinstance(value, Id) and not isinstance(value, bool)


def _id(values: dict[str, Any], key: str) -> Id:
    value = values.get(key)
    if not _is_id(value):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        found = "missing" if value is None else json.dumps(value)[:40]
        raise _Unusable("F004", f"`{key}` is {found}, expected a whole number")
    return value


def _number(value: Any) -> float | None:
    """The number, also where it is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _flag(value: Any) -> bool:
    return value is True or _number(value) not in (None, 0.0)


def image_values(values: dict[str, Any], note: Note) -> dict[str, Any]:
    size = {}
    for key in ("width", "height"):
        number = _number(values.get(key))
        size[key] = int(number) if number is not None and math.isfinite(number) else 0
        if size[key] and isinstance(values[key], str):
            note("F105", f"`{key}` is text: {values[key]!r}")
    name = values.get("file_name")
    return {"id": _id(values, "id"), "file_name": name if isinstance(name, str) else "", **size}


def annotation_values(values: dict[str, Any], note: Note) -> dict[str, Any]:
    box = values.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        found = "missing" if box is None else f"{len(box)} numbers" if isinstance(box, list) else json.dumps(box)[:40]
        raise _Unusable("F102", f"`bbox` is {found}, expected [x, y, width, height]")
    numbers = tuple(map(_number, box))
    if None in numbers:
        raise _Unusable("F102", f"`bbox` {json.dumps(box)[:60]} is not four numbers")
    if any(isinstance(value, str) for value in box):
        note("F105", f"`bbox` holds text: {box}")
    area = _number(values.get("area"))
    if values.get("area") is not None and (area is None or not math.isfinite(area)):
        note("F106", f"`area` is {json.dumps(values['area'])[:40]}; width x height is used")
        area = math.inf  # not missing, which would be another defect
    elif isinstance(values.get("area"), str):
        note("F105", f"`area` is text: {values['area']!r}")
    ids = {key: _id(values, key) for key in ("id", "image_id", "category_id")}
    flags = {key: _flag(values[key]) if values.get(key) is not None else None for key in ("iscrowd", "ignore")}
    return {**ids, "bbox": numbers, "area": area, **flags}


def category_values(values: dict[str, Any], note: Note) -> dict[str, Any]:
    name = values.get("name")
    return {"id": _id(values, "id"), "name": name if isinstance(name, str) else ""}
