"""COCO JSON -> Dataset: frozen, columnar numpy arrays and the list of every defect met on the way.

Nothing is repaired silently. What cannot be used (a box without area, an annotation of an unknown image) is left out of
the arrays and named in `Dataset.defects`; what can be used although it is odd (a number written as text) is used and
named too. Codes are those of the audit's rules.

Inside, from below: source (the text, packed or not, a chunk at a time), dataset (the result), brackets and scan (where
a record ends), lenient (a value that is wrong), records (columns), second (a second process for large files), usable
(checks), layouts (the files of a dataset). A file is never held as a whole: 450 MB take 0.18 GB.

Source of the format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from pathlib import Path

from focalcli.coco.dataset import (
    GROUP_IMAGES,
    Bools,
    Category,
    Dataset,
    Defect,
    Floats,
    Group,
    Id,
    Ids,
    Ints,
    escapes_root,
    frequency_group,
)
from focalcli.coco.layouts import find_image_root, find_splits
from focalcli.coco.records import RecordReader, id_column, readers
from focalcli.coco.scan import Scanner
from focalcli.coco.second import SecondHalf, second_half
from focalcli.coco.source import CHUNK_BYTES, STDIN, Source
from focalcli.coco.usable import unique_categories, unique_images, usable_boxes
from focalcli.errors import FocalError

__all__ = [
    "GROUP_IMAGES",
    "STDIN",
    "Bools",
    "Category",
    "Dataset",
    "Defect",
    "Floats",
    "Group",
    "Id",
    "Ids",
    "Ints",
    "escapes_root",
    "find_image_root",
    "find_splits",
    "frequency_group",
    "load",
]


def load(path: Path, images: Path | None = None, *, chunk_bytes: int = CHUNK_BYTES) -> Dataset:
    """Read one COCO JSON, which may be gzip.

    Args:
        path: the file; `-` is stdin.
        images: the folder that the file_names are relative to; found beside the file when not given.
        chunk_bytes: how much is read at a time.

    Raises:
        FocalError: missing, unreadable, not JSON (with the place), not COCO, or without a single image.
    """
    source = Source(path, chunk_bytes)
    lists = _read_lists(source)
    defects = [defect for records in lists.values() for defect in records.defects]
    columns = {key: records.columns() for key, records in lists.items()}
    for key in ("images", "categories"):
        if not len(columns[key][0]):
            unusable = f" that can be used ({defects[0].text})" if defects else ""
            raise FocalError(f"{source.name}: no {key}{unusable}", f"a dataset needs at least one entry in `{key}`")
    categories = unique_categories(*columns["categories"], defects)
    image_ids, names, image_wh = unique_images(*columns["images"], defects)
    file_names = tuple(names.tolist())
    boxes = usable_boxes(
        *columns.pop("annotations"),
        known_images=image_ids,
        image_wh=image_wh,
        known_categories=id_column([category.id for category in categories]),
        defects=defects,
    )
    return Dataset(
        path=path,
        image_root=images if images is not None else find_image_root(path, file_names),
        categories=categories,
        image_ids=tuple(image_ids.tolist()),
        file_names=file_names,
        image_wh=image_wh,
        defects=tuple(defects),
        digest=source.digest,
        **boxes,
    )


def _read_lists(source: Source) -> dict[str, RecordReader]:
    """The records of images, annotations and categories, whatever else there is and in whatever order."""
    with second_half(source) as second:
        return _walk(source, second)


def _walk(source: Source, second: SecondHalf | None) -> dict[str, RecordReader]:
    lists = readers(source.name)
    found: set[str] = set()
    others: dict[str, str] = {}
    scanner, first_keys = Scanner(source), []
    for key in scanner.outline():
        first_keys += [key] * (len(first_keys) < 6)
        if key not in lists:
            scanner.skip()
        elif scanner.peek() != b"[":
            others.setdefault(key, scanner.skip())
        elif key in found:
            hint = "put the entries of both into one list: most programs read only the last, some only the first"
            raise FocalError(f"{source.name}: the key `{key}` is there twice", hint)
        else:
            found.add(key)
            scanner.records(lists[key], second if key == "annotations" else None)
    for key in lists:
        if key not in found:
            keys = f"no list `{key}`; its keys: {', '.join(first_keys) or 'none'}"
            problem = f"`{key}` is {others[key]}, not a list" if key in others else keys
            raise FocalError(
                f"{source.name}: not a COCO dataset ({problem})",
                "expected an object with the lists `images`, `annotations` and `categories`",
            )
    return lists
