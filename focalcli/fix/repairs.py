"""The repairs, one function each: a record with which a rule finds fault is changed, taken out, or left with a reason.

They are conservative: where two things could be meant, the record is left for a person. A repair returns what it did to
the record, raises Left where it must not decide, and returns None when an earlier repair has seen to it already.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from focalcli.audit.checks.boxes import BORDER_PX
from focalcli.audit.checks.pictures import QUARTER_TURNS
from focalcli.coco import Id, escapes_root
from focalcli.fix.document import Document, Kind
from focalcli.fix.spots import Spot, Survey, twins

CLASS_LIST = "it changes the list of classes, which other splits share"
WHOLE_FILE = "it changes every box of the file"
EVERY_RECORD = "it adds keys to every annotation, for which only pycocotools asks"


class Left(Exception):
    """Why a record stays as it is, in a few words."""


@dataclass(frozen=True)
class Repair:
    """What is done about one rule.

    Attributes:
        does: in a few words. opt_in: why it is done only where the rule is selected by its whole code or name.
    """

    does: str
    apply: Callable[[Document, Survey, Spot], str | None]
    opt_in: str | None = None


def drop(document: Document, survey: Survey, spot: Spot) -> str:
    document.dropped[spot.kind].add(spot.row)
    return spot.text


# ------------------------------------------------------------------------------------------------- numbers and ids


def write_numbers(document: Document, survey: Survey, spot: Spot) -> str | None:
    """Text becomes the number that it spells, and an id is written as in the entry that it names."""
    record = document.content[spot.kind][spot.row]
    new = {key: _number(record[key]) for key in ("area", "width", "height") if key in record}
    if isinstance(record.get("bbox"), list):
        new["bbox"] = [_number(value) for value in record["bbox"]]
    read = survey.values[spot.kind].get(spot.row, {})
    for key, kind in (("image_id", "images"), ("category_id", "categories")):
        value, known = read.get(key), survey.rows[kind]  # as it is read: 2 for 2.0
        if value is not None and value not in known:
            new[key] = next((twin for twin in twins(value) if twin in known), record[key])
    changed = [key for key, value in new.items() if repr(value) != repr(record[key])]  # NaN is not itself
    text = ", ".join(f"`{key}` {record[key]!r} to {new[key]!r}" for key in changed)
    record |= {key: new[key] for key in changed}
    return text or None


def _number(value: Any) -> Any:
    """The number that a text spells (null for nan and infinity, which JSON has not); anything else as it is."""
    if not isinstance(value, str):
        return value
    for read in (int, float):
        try:
            number = read(value)
        except ValueError:
            continue
        return number if isinstance(number, int) or math.isfinite(number) else None
    return value


def renumber(document: Document, survey: Survey, spot: Spot) -> str | None:
    """An annotation gets an id that nobody has; those of images and categories may be named in other files."""
    if spot.kind != "annotations":
        raise Left(f"other files may name this entry of `{spot.kind}` by its id")
    record = document.content["annotations"][spot.row]
    if record["id"] != survey.values["annotations"][spot.row]["id"]:
        return None
    fresh = next(survey.fresh_ids)
    old, record["id"] = record["id"], str(fresh) if isinstance(record["id"], str) else fresh
    return f"{old!r} is now {record['id']!r}"


# ----------------------------------------------------------------------------------------------------------- images


def drop_same_image(document: Document, survey: Survey, spot: Spot) -> str:
    """The second entry of one picture; two pictures with one id are left: whose the annotations are is not known."""
    first, second = (survey.values["images"][row] for row in (spot.first, spot.row))
    if first != second:
        raise Left("the entries differ, so which of the two an annotation means is not in the file")
    return drop(document, survey, spot)


def merge_image(document: Document, survey: Survey, spot: Spot) -> str:
    """The annotations of a picture's second entry become those of the first."""
    first, second = (survey.values["images"][row] for row in (spot.first, spot.row))
    if first | {"id": None} != second | {"id": None}:
        raise Left("the two entries give different sizes")
    moved = _move(document, survey, "image_id", "images", second["id"], first["id"])
    drop(document, survey, spot)
    return f"{second['file_name']!r}: {second['id']!r} is now {first['id']!r}, with {_annotations(moved)}"


def _annotations(n: int) -> str:
    return f"{n:,} annotation{'s' * (n != 1)}"


def _move(document: Document, survey: Survey, key: str, kind: Kind, old: Id, new: Id) -> int:
    """Write `new` where annotations have `old` for this key, also as text for a number or so; how many there are."""
    forms = {old, *(twin for twin in twins(old) if twin not in survey.rows[kind])}
    moved = 0
    for row, record in document.alive("annotations"):
        if survey.values["annotations"].get(row, {}).get(key) in forms:
            record[key] = new
            moved += 1
    return moved


def write_file_name(document: Document, survey: Survey, spot: Spot) -> str:
    """The end of coco_url, as LVIS means it, where a picture of that name is there."""
    url = document.content["images"][spot.row].get("coco_url")
    parts = url.split("/") if isinstance(url, str) else []
    for name in ("/".join(parts[-2:]), parts[-1] if parts else ""):
        if name and not escapes_root(name) and os.path.isfile(survey.dataset.image_root / name):
            document.content["images"][spot.row]["file_name"] = name
            return repr(name)
    raise Left("no `coco_url` whose end is a picture below the image folder")


def write_size(document: Document, survey: Survey, spot: Spot) -> str:
    """The size that the picture's header gives, if the boxes agree with it."""
    index = survey.image_index[survey.values["images"][spot.row]["id"]]
    header = survey.header(index)
    if header is None:
        raise Left("its picture is not there to ask")
    if header.orientation in QUARTER_TURNS:
        raise Left("its picture is EXIF-rotated: whether the boxes are in the stored or the shown frame is not known")
    width, height = header.size
    if (survey.reach[index] > np.add(header.size, BORDER_PX)).any():
        raise Left(f"its boxes reach beyond its picture of {width} x {height}: they were drawn on another size")
    document.content["images"][spot.row] |= {"width": width, "height": height}
    return f"{width} x {height}"


# ------------------------------------------------------------------------------------------------------- categories


def drop_same_category(document: Document, survey: Survey, spot: Spot) -> str:
    """The second entry, or the one of the two without a name."""
    first, second = (survey.values["categories"][row]["name"] for row in (spot.first, spot.row))
    if first != second and first and second:
        raise Left(f"the id is that of {first!r} and of {second!r}: which one an annotation means is not known")
    document.dropped["categories"].add(spot.row if first else spot.first)
    return spot.text


def merge_category(document: Document, survey: Survey, spot: Spot) -> str:
    """The objects of the category with the higher id become those of the lower."""
    first, second = (survey.values["categories"][row] for row in (spot.first, spot.row))
    if not first["name"] or not second["name"]:
        raise Left("one of the two has no name")
    parents = [document.content["categories"][row].get("supercategory") for row in (spot.first, spot.row)]
    if None not in parents and parents[0] != parents[1]:
        raise Left(f"their supercategories differ ({parents[0]!r}, {parents[1]!r}): rename one")
    moved = _move(document, survey, "category_id", "categories", second["id"], first["id"])
    drop(document, survey, spot)
    return f"{second['name']!r}: {second['id']!r} is now {first['id']!r}, with {_annotations(moved)}"


def write_name(document: Document, survey: Survey, spot: Spot) -> str:
    """A category without a name is called by its id."""
    category = survey.values["categories"][spot.row]["id"]
    name = str(category)
    while name in _names(document):
        name = f"category {name}"
    document.content["categories"][spot.row]["name"] = name
    return f"{category!r} is now {name!r}"


def _names(document: Document) -> list[Any]:
    """As they are by now."""
    return [record.get("name") for _, record in document.alive("categories") if isinstance(record, dict)]


def clean_name(document: Document, survey: Survey, spot: Spot) -> str:
    old = survey.values["categories"][spot.row]["name"]
    new = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in old).strip()
    if not new or new in _names(document):
        raise Left(f"there is another category {new!r}" if new else "nothing of it can be printed")
    document.content["categories"][spot.row]["name"] = new
    return f"{old!r} is now {new!r}"


def drop_ghost(document: Document, survey: Survey, spot: Spot) -> str:
    """A category that no annotation names."""
    category = survey.values["categories"][spot.row]["id"]
    if {category, *twins(category)} & survey.used_categories:
        raise Left("it has no object, but annotations that name it: crowds, or boxes that cannot be used")
    return drop(document, survey, spot)


def drop_unknown_category(document: Document, survey: Survey, spot: Spot) -> str:
    if shift := survey.category_shift:
        way = "above" if shift > 0 else "below"
        raise Left(f"every category_id is one {way} an id of `categories`: shift the ids, rather than lose the boxes")
    return drop(document, survey, spot)


# ------------------------------------------------------------------------------------------------------------ boxes


def drop_outside(document: Document, survey: Survey, spot: Spot) -> str:
    _trust_size(survey, spot)
    return drop(document, survey, spot)


def drop_repeated(document: Document, survey: Survey, spot: Spot) -> str:
    """The later of two boxes that are the same."""
    return f"repeats {document.content['annotations'][spot.first]['id']!r}, {drop(document, survey, spot)}"


def write_area(document: Document, survey: Survey, spot: Spot) -> str | None:
    """Width x height, which is what focal takes."""
    for code in survey.box_findings & {"F108", "F109"}:
        raise Left(f"width and height are perhaps something else: see {code}")
    record, area = document.content["annotations"][spot.row], _box_area(document, survey, spot)
    if record["area"] == area:
        return None
    old, record["area"] = record["area"], area
    return f"{old!r:.40} to {area!r}"


def write_keys(document: Document, survey: Survey, spot: Spot) -> str:
    """What pycocotools asks of every annotation: no crowd where nothing is said, and width x height."""
    record, read = document.content["annotations"][spot.row], survey.values["annotations"][spot.row]
    missing = {"iscrowd": 0} | ({"area": _box_area(document, survey, spot)} if read["area"] is None else {})
    added = {key: value for key, value in missing.items() if read[key] is None}
    record |= added
    return ", ".join(f"`{key}` {value}" for key, value in added.items())


def _box_area(document: Document, survey: Survey, spot: Spot) -> Any:
    """Width x height, a whole number where both are."""
    w, h = survey.values["annotations"][spot.row]["bbox"][2:]
    if not (w > 0 and 0 < w * h < math.inf):
        raise Left("its box has no area")
    w, h = map(_number, document.content["annotations"][spot.row]["bbox"][2:])
    return w * h


def clip(document: Document, survey: Survey, spot: Spot) -> str:
    """The part of the box inside its picture; an area that was width x height, or is now too large, goes along."""
    _trust_size(survey, spot)
    record = document.content["annotations"][spot.row]
    image = survey.image_index[survey.image_of(spot.row)]
    old = [_number(value) for value in record["bbox"]]
    new = list(old)
    for axis, side in enumerate(survey.dataset.image_wh[image].tolist()):
        low, length = old[axis], old[axis + 2]
        if low < 0 or low + length > side:
            new[axis] = max(low, type(low)(0))
            new[axis + 2] = min(low + length, side) - new[axis]
    return _write_box(record, old, new)


def write_lengths(document: Document, survey: Survey, spot: Spot) -> str:
    """Two corners become a corner, width and height."""
    record = document.content["annotations"][spot.row]
    old = [_number(value) for value in record["bbox"]]
    return _write_box(record, old, [*old[:2], old[2] - old[0], old[3] - old[1]])


def _write_box(record: dict[str, Any], old: list[Any], new: list[Any]) -> str:
    record["bbox"] = new
    area = _number(record.get("area"))
    if isinstance(area, (int, float)):
        whole, left = old[2] * old[3], new[2] * new[3]
        if math.isclose(area, whole, rel_tol=1e-6) or area > left:
            record["area"] = left
    return f"{old} to {new}"


def _trust_size(survey: Survey, spot: Spot) -> None:
    """Raise Left where the picture itself says that the size in the file may not be that of the boxes' frame."""
    index = survey.image_index[survey.image_of(spot.row)]
    header, stated = survey.header(index), tuple(survey.dataset.image_wh[index].tolist())
    if header is None:
        return
    if header.orientation in QUARTER_TURNS:
        raise Left("its picture is EXIF-rotated: the boxes may be in its other frame")
    if header.size != stated:
        raise Left("its picture is {} x {}, the file says {} x {}".format(*header.size, *stated))


# in the order of their use: first what can be read, then what it belongs to, then boxes, ids last
REPAIRS: dict[str, Repair] = {
    "F105": Repair("text written as numbers, ids as in the entry that they name", write_numbers),
    "F004": Repair("taken out", drop),
    "F102": Repair("taken out", drop),
    "F002": Repair("the copy of an entry taken out", drop_same_image),
    "F308": Repair("merged into the first entry", merge_image),
    "F303": Repair("name taken from coco_url", write_file_name),
    "F301": Repair("size taken from the picture's header", write_size),
    "F201": Repair("the copy of an entry taken out", drop_same_category),
    "F202": Repair("merged into the one with the lower id", merge_category),
    "F204": Repair("named by its id", write_name),
    "F003": Repair("taken out", drop),
    "F203": Repair("taken out", drop_unknown_category),
    "F101": Repair("taken out", drop),
    "F103": Repair("taken out", drop_outside),
    "F104": Repair("the later box taken out", drop_repeated),
    "F106": Repair("width x height written", write_area),
    "F008": Repair("`iscrowd` 0 and width x height written", write_keys, opt_in=EVERY_RECORD),
    "F112": Repair("width x height written", write_area),
    "F107": Repair("clipped to the picture", clip),
    "F108": Repair("corners written as width and height", write_lengths, opt_in=WHOLE_FILE),
    "F001": Repair("given an id of its own", renumber),
    "F005": Repair("given an id of its own", renumber),
    "F007": Repair("given an id of its own", renumber),
    "F207": Repair("the name without them", clean_name, opt_in=CLASS_LIST),
    "F205": Repair("taken out", drop_ghost, opt_in=CLASS_LIST),
}
