"""The records of the three lists of a COCO file, block by block, into columns.

A block is decoded in one typed pass and its records are dropped at once. A value that does not fit the type makes that
block, and no other, be read again record by record (lenient.py), so that every defect is named and not only the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from focalcli.coco import lenient
from focalcli.coco.dataset import Defect, Ids
from focalcli.errors import FocalError

MOST_DEFECTS = 2_000_000  # 0.4 GB; a list of 2-byte entries could ask for a hundred times the file's size
Column = npt.NDArray[Any]


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
    iscrowd: int | bool | None = None
    ignore: int | bool | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class RecordReader:
    """Reads one of the lists; a scan.Reader.

    Attributes:
        defects: what the slow reading met, in the order of the file.
    """

    def __init__(
        self,
        file: str,
        kind: str,
        record: type,
        slowly: lenient.ReadValues,
        columns: Callable[[list[Any]], Sequence[Column]],
    ) -> None:
        self.defects: list[Defect] = []
        self._file, self._kind, self._record, self._slowly, self._columns = file, kind, record, slowly, columns
        self._decode = msgspec.json.Decoder(list[record]).decode
        self._blocks = [[column] for column in columns([])]
        self._seen = 0

    def typed(self, text: bytes) -> None:
        records = self._decode(text)
        self.take(self._columns(records))
        self._seen += len(records)

    def lenient(self, entries: list[Any]) -> None:
        values = lenient.read(entries, self._kind, self._slowly, self._seen, self.defects)
        self.take(self._columns([self._record(**record) for record in values]))
        self._seen += len(entries)
        if len(self.defects) > MOST_DEFECTS:
            what = f"more than {MOST_DEFECTS:,} defects in its {self._kind}s; the first: {self.defects[0].text}"
            raise FocalError(f"{self._file}: {what}", "correct what wrote the file, and write it again")

    def take(self, columns: Sequence[Column]) -> None:
        """Add columns that were read elsewhere."""
        for blocks, column in zip(self._blocks, columns, strict=True):
            blocks.append(column)

    def columns(self) -> list[Column]:
        """Each column in one piece; can be asked for once, which saves holding both."""
        return [_joined(self._blocks.pop(0)) for _ in range(len(self._blocks))]


def readers(file: str) -> dict[str, RecordReader]:
    """A reader for each list that focal uses, by its key; `file` is what messages call the file.

    Columns of images: ids, file_names, widths, heights. Of annotations: ids, image ids, category ids, boxes (B, 4),
    areas (NaN where there is none), crowds, whether iscrowd is stated, whether ignore is set. Of categories: ids,
    names. Integers that are text, or too large for 64 bits, make an object column.
    """
    return {
        "images": RecordReader(file, "image", _Image, lenient.image_values, _image_columns),
        "annotations": RecordReader(file, "annotation", _Annotation, lenient.annotation_values, _annotation_columns),
        "categories": RecordReader(file, "category", _Category, lenient.category_values, _category_columns),
    }


def _image_columns(records: list[_Image]) -> Sequence[Column]:
    return (
        id_column([record.id for record in records]),
        _objects([record.file_name for record in records]),
        id_column([record.width for record in records]),
        id_column([record.height for record in records]),
    )


def _annotation_columns(records: list[_Annotation]) -> Sequence[Column]:
    numbers = chain.from_iterable([record.bbox for record in records])
    crowd = np.array([record.iscrowd for record in records], dtype=np.float64)  # None becomes NaN
    return (
        id_column([record.id for record in records]),
        id_column([record.image_id for record in records]),
        id_column([record.category_id for record in records]),
        np.fromiter(numbers, dtype=np.float64, count=4 * len(records)).reshape(-1, 4),
        np.array([record.area for record in records], dtype=np.float64),
        (crowd != 0) & (crowd == crowd),
        ~np.isnan(crowd),
        np.array([record.ignore for record in records], dtype=np.bool_),
    )


def _category_columns(records: list[_Category]) -> Sequence[Column]:
    return id_column([record.id for record in records]), _objects([record.name for record in records])


def id_column(values: list[Any]) -> Ids:
    """int64, or the values themselves where one is text or too large."""
    if not values:
        return np.zeros(0, dtype=np.int64)
    if set(map(type, values)) == {int}:  # otherwise text would be taken for the number that it spells
        with contextlib.suppress(OverflowError):
            return np.fromiter(values, dtype=np.int64, count=len(values))  # twice as fast as np.array
    return _objects(values)


def _objects(values: list[Any]) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _joined(blocks: list[Column]) -> Column:
    # of one large block and empty ones nothing needs to be copied
    full = [block for block in blocks if len(block)]
    return np.concatenate(full) if len(full) > 1 else (full or blocks)[0]
