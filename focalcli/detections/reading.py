"""COCO results JSON -> Detections: of any detector, a block at a time, and what a file that is not that is told.

Source of the format: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from focalcli.coco import Dataset, Id
from focalcli.coco.records import id_column
from focalcli.coco.scan import Scanner
from focalcli.coco.source import CHUNK_BYTES, Source
from focalcli.detections.arrays import Detections, refuse_unscorable
from focalcli.detections.ids import category_positions, image_positions
from focalcli.errors import FocalError

MOST_DETECTIONS = 20_000_000  # about 3 GB while they are scored
SHAPE = "expected a list of {image_id, category_id, bbox: [x, y, width, height], score}"


class Record(msgspec.Struct, gc=False):
    """One detection as it stands in the file."""

    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    score: float


def load_detections(path: Path, dataset: Dataset) -> Detections:
    """Read COCO results JSON, which may be gzip, of any detector. An empty list is valid.

    Raises:
        FocalError: missing, unreadable, not a list of detections, more than MOST_DETECTIONS, ids that the dataset does
            not have, numbers that are not finite, boxes of negative size.
    """
    if path.is_dir():
        raise FocalError(f"{path}: is a folder; {SHAPE}", "give the results JSON in it")
    if not path.exists():
        raise FocalError(f"{path}: no such file; {SHAPE}", "give the results JSON that a detector wrote")
    scanner, reader = Scanner(Source(path, CHUNK_BYTES)), _Reader(path)
    if scanner.peek() != b"[":
        raise _not_a_list(path, scanner)
    scanner.records(reader)
    if scanner.peek():
        raise FocalError(f"{path}: something follows the list of detections; {SHAPE}", "write the list alone")
    images, categories, boxes, scores = reader.columns()
    detections = Detections(
        image=image_positions(path, dataset, images),
        label=category_positions(path, dataset, categories),
        boxes=boxes,
        scores=scores,
    )
    refuse_unscorable(detections, str(path))
    return detections


class _Reader:
    """Takes the records block by block; a scan.Reader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decode = msgspec.json.Decoder(list[Record]).decode
        self._blocks: list[list[Any]] = [[] for _ in range(4)]
        self._seen = 0
        self._take([])

    def typed(self, text: bytes) -> None:
        self._take(self._decode(text))

    def lenient(self, entries: list[Any]) -> None:
        start = self._seen
        self._take(
            [_read_record(f"{self._path}: detection number {n}", entry) for n, entry in enumerate(entries, start)]
        )

    def columns(self) -> list[Any]:
        """Image ids, category ids, boxes (D, 4) and scores; can be asked for once, which saves holding all twice."""
        return [np.concatenate(self._blocks.pop(0)) for _ in range(len(self._blocks))]

    def _take(self, records: list[Record]) -> None:
        self._seen += len(records)
        if self._seen > MOST_DETECTIONS:
            raise FocalError(
                f"{self._path}: more than {MOST_DETECTIONS:,} detections; expected at most that many",
                "keep the best 100 of each image and class: COCO's rules look at no other",
            )
        numbers = chain.from_iterable([record.bbox for record in records])
        columns = (
            id_column([record.image_id for record in records]),
            id_column([record.category_id for record in records]),
            np.fromiter(numbers, dtype=np.float64, count=4 * len(records)).reshape(-1, 4),
            np.array([record.score for record in records], dtype=np.float64),
        )
        for blocks, column in zip(self._blocks, columns, strict=True):
            blocks.append(column)


def _not_a_list(path: Path, scanner: Scanner) -> FocalError:
    if scanner.peek() != b"{":
        return FocalError(f"{path}: holds {scanner.skip()}, not detections; {SHAPE}", "write it again")
    names = []
    for key in islice(scanner.outline(), 6):
        names.append(key)
        scanner.skip()
    hint = "write the list alone, without an object around it"
    if "images" in names or "categories" in names:
        hint = "this is a dataset; the detections come first: `focal eval DETECTIONS.json DATASET`"
    return FocalError(f"{path}: an object (its keys: {', '.join(names) or 'none'}), not detections; {SHAPE}", hint)


def _read_record(place: str, entry: Any) -> Record:
    if not isinstance(entry, dict):
        raise FocalError(f"{place} is {type(entry).__name__}; {SHAPE}", "write one object for each detection")
    missing = [key for key in Record.__struct_fields__ if key not in entry]
    if missing:
        hint = "every detection needs image_id, category_id, bbox and score"
        if missing == ["score"]:
            hint = "without scores these are annotations; a detector's results have a score for each box"
        present = ", ".join(list(entry)[:8]) or "nothing"
        raise FocalError(f"{place} has no {' and no '.join(missing)} (it has {present}); {SHAPE}", hint)
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        found = f"{len(box)} numbers" if isinstance(box, list) else repr(box)[:40]
        raise FocalError(f"{place}: bbox is {found}, expected [x, y, width, height]", "write four numbers for each box")
    return Record(
        image_id=_read_id(place, entry, "image_id"),
        category_id=_read_id(place, entry, "category_id"),
        bbox=tuple(_read_number(place, "bbox", value) for value in box),
        score=_read_number(place, "score", entry["score"]),
    )


def _read_id(place: str, entry: dict[str, Any], key: str) -> Id:
    value = entry[key]
    if isinstance(value, float) and value.is_integer():  # pandas writes ids as 1.0
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        hint = "write the id as the dataset does"
        raise FocalError(f"{place}: {key} is {value!r:.40}, expected an id of the dataset", hint)
    return value


def _read_number(place: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FocalError(f"{place}: {key} holds {value!r:.40}, expected a number", "write numbers without quotes")
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits: as good as Infinity, and named as such later
        return float("inf")
