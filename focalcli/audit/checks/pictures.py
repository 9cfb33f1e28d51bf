"""The pictures: where they are, and what their headers say."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from focalcli.audit.checks.finding import make
from focalcli.audit.report import PLACES, Finding
from focalcli.coco import Dataset, Id, escapes_root
from focalcli.errors import FocalError

UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
EXIF_ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


def of_images(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the pictures' headers show; no pixel is decoded."""
    paths: dict[int, Path] = {}
    escaping, missing = [], []
    for index, name in enumerate(dataset.file_names):
        if not name:
            continue  # F303 names it
        if escapes_root(name):
            escaping.append(index)
        elif not os.path.isfile(f"{dataset.image_root}/{name}"):
            missing.append(index)
        else:
            try:
                paths[index] = dataset.image_path(index)
            except FocalError:  # a link that leads out
                escaping.append(index)
    yield from _escaping(split, dataset, escaping)
    yield from _missing(split, dataset, missing, len(missing) + len(paths))
    yield from _headers(split, dataset, paths)


def _escaping(split: str, dataset: Dataset, indices: list[int]) -> Iterator[Finding]:
    if indices:
        message = f"{dataset.file_names[indices[0]]!r} leads out of {dataset.image_root}"
        yield make("F304", split, message, count=len(indices), image_ids=_ids(dataset, indices))


def _missing(split: str, dataset: Dataset, indices: list[int], expected: int) -> Iterator[Finding]:
    if not indices:
        return
    name = dataset.file_names[indices[0]]
    if len(indices) == expected:
        message = f"none of {expected:,} pictures is below {dataset.image_root} (the first: {name!r}); headers not read"
        hint = "`--images DIR` names the folder that file_name is relative to"
        yield make("F302", split, message, count=expected, severity="warning", hint=hint)
    else:
        message = f"{name!r} is not below {dataset.image_root}"
        yield make("F302", split, message, count=len(indices), image_ids=_ids(dataset, indices))


def _headers(split: str, dataset: Dataset, paths: Mapping[int, Path]) -> Iterator[Finding]:
    differs: dict[int, tuple[int, int]] = {}
    turned: dict[int, tuple[int, int]] = {}
    unreadable: dict[int, str] = {}
    for index, path in paths.items():
        try:
            size, orientation = _header(path)
        except UNREADABLE as error:
            unreadable[index] = str(error) or type(error).__name__
            continue
        stated = tuple(dataset.image_wh[index].tolist())
        if orientation in QUARTER_TURNS:
            turned[index] = size
        if min(stated) > 0 and stated != size and not (orientation in QUARTER_TURNS and stated == size[::-1]):
            differs[index] = size
    if differs:
        index, (width, height) = next(iter(differs.items()))
        text = "{} x {}".format(*dataset.image_wh[index])
        message = f"{dataset.file_names[index]!r} is {width} x {height}, the file says {text}"
        yield make("F305", split, message, count=len(differs), image_ids=_ids(dataset, differs))
    if turned:
        yield make("F306", split, _frames(dataset, turned), count=len(turned), image_ids=_ids(dataset, turned))
    if unreadable:
        index, problem = next(iter(unreadable.items()))
        message = f"{dataset.file_names[index]!r}: {problem}"
        yield make("F307", split, message, count=len(unreadable), image_ids=_ids(dataset, unreadable))


def _header(path: Path) -> tuple[tuple[int, int], int | None]:
    """Stored width and height, and the EXIF orientation (1 to 8) where there is one."""
    from PIL import Image  # 40 ms that only this check needs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # very large pictures: only the header is read
        with Image.open(path) as picture:
            # getexif() of a PNG without EXIF decodes the whole picture to look for it at the end
            has_exif = "exif" in picture.info or picture.format == "TIFF"
            return picture.size, picture.getexif().get(EXIF_ORIENTATION) if has_exif else None


def _frames(dataset: Dataset, turned: Mapping[int, tuple[int, int]]) -> str:
    """How many of the turned pictures the file gives in which frame."""
    stored = shown = 0
    for index, size in turned.items():
        stated = tuple(dataset.image_wh[index].tolist())
        stored += stated == size != size[::-1]
        shown += stated == size[::-1] != size
    index, (width, height) = next(iter(turned.items()))
    return (
        f"{dataset.file_names[index]!r} is stored {width} x {height} and shown {height} x {width}; the file gives the "
        f"stored size for {stored} and the shown size for {shown} of {len(turned)}"
    )


def _ids(dataset: Dataset, indices: Iterable[int]) -> list[Id]:
    return [dataset.image_ids[index] for index in islice(indices, PLACES)]
