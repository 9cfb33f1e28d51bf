"""Which records of a file the rules complain about, to the record: a finding only names the first few.

What is a defect is decided by the code that decides it for the audit. The loader reads each record by itself, and then
all of them in a copy where every annotation's id is its row, so that what it says points at one record even where the
ids of the file are at fault.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from focalcli.audit.checks import boxes
from focalcli.audit.checks.headers import UNREADABLE, Header, read_header
from focalcli.audit.checks.records import EXACT
from focalcli.coco import Dataset, Defect, Floats, Id, lenient, load
from focalcli.errors import FocalError
from focalcli.fix.document import KINDS, Document, Kind

Values = dict[str, Any]  # of one record, as the loader reads it
READERS: dict[Kind, tuple[str, lenient.ReadValues]] = {
    "images": ("image", lenient.image_values),
    "annotations": ("annotation", lenient.annotation_values),
    "categories": ("category", lenient.category_values),
}


@dataclass(frozen=True)
class Spot:
    """One record with which a rule finds fault.

    Attributes:
        row: its number in the list `kind`. text: what is wrong, as the audit says it.
        first: the row that it repeats, for rules about pairs.
    """

    code: str
    kind: Kind
    row: int
    text: str
    first: int = -1


@dataclass(frozen=True)
class Survey:
    """A file as the audit sees it, and where each thing in it stands.

    Attributes:
        dataset: what can be used; its annotation ids are rows.
        rows: the first row of each id. values: what the loader reads in the records that it can read, by row.
        spots: by code.
    """

    dataset: Dataset
    rows: dict[Kind, dict[Id, int]]
    values: dict[Kind, dict[int, Values]]
    spots: dict[str, list[Spot]]

    @cached_property
    def image_index(self) -> dict[Id, int]:
        """id -> index into dataset.image_ids."""
        return {value: index for index, value in enumerate(self.dataset.image_ids)}

    def image_of(self, row: int) -> Id:
        """The image id of an annotation, in the form in which `images` has it."""
        value = self.values["annotations"][row]["image_id"]
        return next(form for form in (value, *twins(value)) if form in self.image_index)

    @cached_property
    def fresh_ids(self) -> Iterator[int]:
        """Whole numbers that are no annotation's id, to be taken one by one."""
        ids = [read["id"] for read in self.values["annotations"].values()]
        used = set(map(str, ids))
        top = max((value for value in ids if isinstance(value, int)), default=0)
        start = top + 1 if 0 <= top < EXACT else 1
        return (number for number in count(start) if str(number) not in used)

    @cached_property
    def used_categories(self) -> set[Id]:
        """What annotations have for category_id, known or not."""
        return {read["category_id"] for read in self.values["annotations"].values()}

    @cached_property
    def category_shift(self) -> int:
        """1 or -1 when every category_id is so much above or below an id of `categories`, else 0."""
        used, known = self.used_categories, set(self.rows["categories"])
        if len(known) < 2 or used <= known or not all(isinstance(value, int) for value in used):
            return 0
        return next((shift for shift in (1, -1) if all(value - shift in known for value in used)), 0)

    @cached_property
    def box_findings(self) -> set[str]:
        """The codes that an audit of the boxes gives."""
        return {finding.code for finding in boxes.of_boxes("", self.dataset)}

    @cached_property
    def _headers(self) -> dict[int, Header | None]:
        return {}

    def header(self, index: int) -> Header | None:
        """What the picture's header says; None when it is not there or cannot be read."""
        if index not in self._headers:
            try:
                path = self.dataset.image_path(index)
                self._headers[index] = read_header(str(path)) if os.path.isfile(path) else None
            except (FocalError, *UNREADABLE):
                self._headers[index] = None
        return self._headers[index]

    @cached_property
    def reach(self) -> Floats:
        """(I, 2) the largest x + w and y + h of the boxes in each picture, 0 without boxes."""
        reach = np.zeros((len(self.dataset.image_ids), 2))
        np.maximum.at(reach, self.dataset.box_image, self.dataset.boxes[:, :2] + self.dataset.boxes[:, 2:])
        return reach


def survey(document: Document, codes: Collection[str], images: Path, folder: Path) -> Survey:
    """Every record with which one of these rules finds fault.

    Args:
        images: where the pictures are. folder: for the copy.
    """
    spots: dict[str, list[Spot]] = defaultdict(list)
    values: dict[Kind, dict[int, Values]] = {kind: {} for kind in KINDS}
    for kind, (name, values_of) in READERS.items():
        for row, record in enumerate(document.content[kind]):
            defects: list[Defect] = []
            for read in lenient.read([record], name, values_of, row, defects):
                values[kind][row] = read
            for defect in defects:
                if defect.code in codes:
                    spots[defect.code].append(Spot(defect.code, kind, row, defect.text))
    dataset = _load_copy(values, images, folder)
    rows = {kind: _first_rows(values[kind]) for kind in KINDS}
    seen = Survey(dataset, rows, values, spots)
    for spot in chain(_of_loader(seen), _of_records(seen), _of_boxes(seen), _ghosts(seen)):
        if spot.code in codes:
            spots[spot.code].append(spot)
    return seen


def _load_copy(values: dict[Kind, dict[int, Values]], images: Path, folder: Path) -> Dataset:
    """The dataset of these records; what stands in the file beside them is not needed."""
    copy: dict[Kind, list[dict[str, Any]]] = {kind: list(values[kind].values()) for kind in KINDS}
    copy["annotations"] = [read | {"id": row} for row, read in values["annotations"].items()]
    path = folder / "survey.json"
    path.write_text(json.dumps(copy), encoding="ascii")
    return load(path, images)


def twins(value: Id) -> list[Id]:
    """The same id as text, or as a number."""
    if isinstance(value, int):
        return [str(value)]
    digits = value.removeprefix("-")
    spells = digits.isdecimal() and len(digits) <= 18 and str(int(value)) == value  # "007" is another id than 7
    return [int(value)] if spells else []


def _first_rows(records: dict[int, Values]) -> dict[Id, int]:
    """id -> the first row that has it, as the loader keeps the first."""
    rows: dict[Id, int] = {}
    for row, record in records.items():
        rows.setdefault(record["id"], row)
    return rows


def _of_loader(survey: Survey) -> Iterator[Spot]:
    """What the loader found in the copy. Its records are sound by themselves: what is left is their relations."""
    for defect in survey.dataset.defects:
        if defect.annotation_id is not None:
            yield Spot(defect.code, "annotations", int(defect.annotation_id), defect.text)
        elif defect.code in ("F301", "F303"):
            yield Spot(defect.code, "images", survey.rows["images"][defect.image_id], defect.text)


def _of_records(survey: Survey) -> Iterator[Spot]:
    """Ids, names and keys; the loader sees other annotation ids than the file's, and names no rows of the others."""
    for code, kind in (("F001", "annotations"), ("F002", "images"), ("F201", "categories")):
        for row, record in survey.values[kind].items():
            first = survey.rows[kind][record["id"]]
            if row != first:
                yield Spot(code, kind, row, f"its id is {record['id']!r} too", first)
    for row, record in survey.values["annotations"].items():
        if record["iscrowd"] is None or record["area"] is None:
            yield Spot("F008", "annotations", row, "a key is missing")
    for kind in KINDS:
        for value, row in survey.rows[kind].items():
            if isinstance(value, int) and abs(value) > EXACT:
                yield Spot("F007", kind, row, f"its id is {value}")
    files: dict[str, int] = {}
    for row in survey.rows["images"].values():
        name = survey.values["images"][row]["file_name"]
        if name and files.setdefault(name, row) != row:
            yield Spot("F308", "images", row, f"another image is {name!r}", files[name])
    names: dict[str, int] = {}
    for category in survey.dataset.categories:
        row = survey.rows["categories"][category.id]
        first = names.setdefault(category.name, row)
        if row != first:
            yield Spot("F202", "categories", row, f"another category is {category.name!r}", first)
    for row in survey.rows["categories"].values():
        name = survey.values["categories"][row]["name"]
        if not name:
            yield Spot("F204", "categories", row, "no name")
        if name != name.strip() or not name.isprintable():
            yield Spot("F207", "categories", row, f"its name is {name!r}")


def _of_boxes(survey: Survey) -> Iterator[Spot]:
    dataset, values = survey.dataset, survey.values["annotations"]
    rows = dataset.annotation_ids.tolist()
    for row in rows:
        if values[row]["id"] == 0:
            yield Spot("F005", "annotations", row, "its id is 0")
    for b, (a, overlap) in _repeats(dataset).items():
        yield Spot("F104", "annotations", rows[b], f"IoU {overlap:.2f}", rows[a])
    found = survey.box_findings
    x, y, w, h = dataset.boxes.T
    if "F107" in found:
        cut_off = np.abs(dataset.boxes_xyxy - np.stack([x, y, x + w, y + h], axis=1)).max(axis=1)
        sized = (dataset.image_wh > 0).all(axis=1)[dataset.box_image]
        for box in np.flatnonzero(sized & (cut_off > boxes.BORDER_PX)).tolist():
            yield Spot("F107", "annotations", rows[box], f"{cut_off[box]:,.1f} px beyond its picture")
    if "F108" in found:  # said of some boxes, as all are written by one hand
        for row in rows:
            yield Spot("F108", "annotations", row, "two corners")
    if "F112" in found:
        for box in np.flatnonzero(dataset.area > (w + 2) * (h + 2)).tolist():
            yield Spot("F112", "annotations", rows[box], f"area {dataset.area[box]:,.8g}")


def _repeats(dataset: Dataset) -> dict[int, tuple[int, float]]:
    """Box -> an earlier one of its class that it repeats, and their IoU."""
    columns = (column.tolist() for column in boxes.duplicate_pairs(dataset))
    repeats: dict[int, tuple[int, float]] = {}
    for a, b, overlap in zip(*columns, strict=True):  # sorted by b
        # of three in a chain the last may repeat only one that goes itself
        if a not in repeats and dataset.box_label[a] == dataset.box_label[b]:
            repeats.setdefault(b, (a, overlap))
    return repeats


def _ghosts(survey: Survey) -> Iterator[Spot]:
    dataset = survey.dataset
    if dataset.objects_per_class.any():
        for label in np.flatnonzero(dataset.objects_per_class == 0).tolist():
            category = dataset.categories[label]
            yield Spot("F205", "categories", survey.rows["categories"][category.id], f"{category.name!r} has no object")
