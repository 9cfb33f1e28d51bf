"""A COCO file with something wrong in it, read record by record, so that every defect is named and not only the first.

coco.py reads a sound file in one typed pass and comes here when that fails. What can be understood (a number written as
text, a whole number written 3.0) is; what cannot becomes a Defect under the code of the audit's rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focalcli.errors import FocalError

Id = int | str


@dataclass(frozen=True)
class Defect:
    """One oddity of one record of the file, under the code of the rule that explains it."""

    code: str
    text: str
    image_id: Id | None = None
    annotation_id: Id | None = None


@dataclass
class _Record:
    """A record of the slow path, with the attributes of _Image, _Annotation or _Category."""

    values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["values"][name]


@dataclass
class _Lenient:
    images: list[_Record]
    annotations: list[_Record]
    categories: list[_Record]


def decode_leniently(path: Path, data: bytes, defects: list[Defect]) -> _Lenient:
    """Record by record, so that every defect is named and not only the first."""
    try:
        # json, unlike msgspec, takes NaN and Infinity, which exporters write: they become findings, not a full stop
        content = json.loads(data)
    except UnicodeDecodeError as error:
        raise FocalError(f"{path}: not UTF-8 text (byte {error.start})", "expected a COCO JSON file") from None
    except json.JSONDecodeError as error:
        rest, last = error.doc[error.pos :].strip(), error.doc.rstrip()[-1:]
        cut = not rest or last not in "]}"
        end = f"; the file ends at line {error.doc.count(chr(10)) + 1}: it was cut short" if cut else ""
        raise FocalError(
            f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg.lower()}{end})",
            "expected a COCO JSON file; copy or export it again",
        ) from None
    except ValueError as error:  # Python refuses to read whole numbers of more than 4300 digits
        raise FocalError(f"{path}: not COCO ({error})", "expected a COCO JSON file") from None
    except RecursionError:
        raise FocalError(f"{path}: JSON nested too deeply to be COCO", "expected a COCO JSON file") from None
    _check_outline(path, content)
    return _Lenient(
        images=list(_records(content["images"], "image", _image_values, defects)),
        annotations=list(_records(content["annotations"], "annotation", _annotation_values, defects)),
        categories=list(_records(content["categories"], "category", _category_values, defects)),
    )


def _check_outline(path: Path, content: Any) -> None:
    hint = "expected an object with the lists `images`, `annotations` and `categories`"
    if isinstance(content, list):
        hint += "; a list is what detections look like: `focal eval DETECTIONS.json DATASET`"
    if not isinstance(content, dict):
        raise FocalError(f"{path}: not a COCO dataset (it is a {type(content).__name__})", hint)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            keys = ", ".join(list(content)[:6]) or "none"
            raise FocalError(f"{path}: not a COCO dataset (no list `{key}`; its keys: {keys})", hint)


class _Unusable(Exception):
    """A record that cannot be read: (code, text)."""


def _records(entries: list[Any], kind: str, read: Any, defects: list[Defect]) -> Iterator[_Record]:
    for index, entry in enumerate(entries):
        values = entry if isinstance(entry, dict) else {}
        image_id = values.get("id" if kind == "image" else "image_id")
        place = {
            "image_id": image_id if isinstance(image_id, Id) else None,
            "annotation_id": values.get("id") if kind == "annotation" and isinstance(values.get("id"), Id) else None,
        }
        try:
            if not isinstance(entry, dict):
                raise _Unusable("F004", f"{kind} number {index} is {type(entry).__name__}, not an object")
            yield _Record(read(entry, lambda code, text, place=place: defects.append(Defect(code, text, **place))))
        except _Unusable as problem:
            code, text = problem.args
            defects.append(Defect(code, f"{kind} number {index}: {text}" if not any(place.values()) else text, **place))


def _id(values: dict[str, Any], key: str) -> Id:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        found = "missing" if value is None else repr(value)[:40]
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


def _image_values(values: dict[str, Any], note: Any) -> dict[str, Any]:
    size = {}
    for key in ("width", "height"):
        number = _number(values.get(key))
        size[key] = int(number) if number is not None and math.isfinite(number) else 0
        if size[key] and isinstance(values[key], str):
            note("F105", f"`{key}` is text: {values[key]!r}")
    name = values.get("file_name")
    return {"id": _id(values, "id"), "file_name": name if isinstance(name, str) else "", **size}


def _annotation_values(values: dict[str, Any], note: Any) -> dict[str, Any]:
    box = values.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        found = "missing" if box is None else f"{len(box)} numbers" if isinstance(box, list) else repr(box)[:40]
        raise _Unusable("F102", f"`bbox` is {found}, expected [x, y, width, height]")
    numbers = tuple(map(_number, box))
    if None in numbers:
        raise _Unusable("F102", f"`bbox` {str(box)[:60]} is not four numbers")
    if any(isinstance(value, str) for value in box):
        note("F105", f"`bbox` holds text: {box}")
    area = _number(values.get("area"))
    if area is None and values.get("area") is not None:
        note("F106", f"`area` is {values['area']!r:.40}; width x height is used")
    elif isinstance(values.get("area"), str):
        note("F105", f"`area` is text: {values['area']!r}")
    ids = {key: _id(values, key) for key in ("id", "image_id", "category_id")}
    crowd = values.get("iscrowd")
    return {**ids, "bbox": numbers, "area": area, "iscrowd": crowd is True or _number(crowd) not in (None, 0.0)}


def _category_values(values: dict[str, Any], note: Any) -> dict[str, Any]:
    name = values.get("name")
    return {"id": _id(values, "id"), "name": name if isinstance(name, str) else ""}
