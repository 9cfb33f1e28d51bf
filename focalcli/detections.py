"""Detections: what a detector found, and the file they travel in.

The seam between detectors and scores is a file, COCO results JSON, so any detector can be scored; what it may not hold
(unknown ids, numbers that are not finite) is refused by name, never scored as a silent 0.

Shapes: D detections. Boxes are xywh in pixels of the original picture.
Source of the format: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from focalcli.coco import Dataset, Floats, Id, Ints
from focalcli.errors import FocalError


@dataclass(frozen=True)
class Detections:
    """What a detector found, in the order of its file. Arrays are read-only.

    Attributes:
        image: (D,) index into Dataset.image_ids. label: (D,) index into Dataset.categories.
        boxes: (D, 4) xywh. scores: (D,) any finite numbers, higher is surer.
    """

    image: Ints
    label: Ints
    boxes: Floats
    scores: Floats

    def __post_init__(self) -> None:
        for array in (self.image, self.label, self.boxes, self.scores):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)

    def rounded(self) -> Detections:
        """As `results_json` writes them: boxes to 0.01 px, scores to 0.00001.

        Rounding makes ties, and ties can move AP by 1e-4: score these where a saved file must give the same AP.
        """
        return Detections(
            image=self.image,
            label=self.label,
            boxes=np.round(self.boxes.astype(np.float64), 2),
            scores=np.round(self.scores.astype(np.float64), 5),
        )


def refuse_unscorable(detections: Detections, place: str) -> None:
    """Raise FocalError on numbers that COCOeval would turn into nonsense without a word."""
    x, y, w, h = detections.boxes.astype(np.float64).T
    with np.errstate(over="ignore", invalid="ignore"):
        # corners and area too: where these overflow, the IoU is NaN, and COCOeval takes NaN for a match
        finite = np.isfinite([x, y, w, h, x + w, y + h, w * h, detections.scores]).all(axis=0)
    for bad, what, hint in (
        (~finite, "a box or a score that is not finite", "did the model diverge? Run it from an earlier checkpoint"),
        ((w < 0) | (h < 0), "a box of negative size", "`bbox` is [x, y, width, height], not two corners"),
    ):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            values = f"bbox {detections.boxes[first].tolist()}, score {float(detections.scores[first])}"
            raise FocalError(
                f"{place}: {bad.sum()} of {len(detections)} detections have {what}: number {first} has {values}; "
                "expected finite numbers, width and height >= 0",
                hint,
            )


# ---------------------------------------------------------------------------------------------------------- the file


_SHAPE = "expected a list of {image_id, category_id, bbox: [x, y, width, height], score}"
_Explain = Callable[[Sequence[Id], set[Id], Dataset], str]  # unknown ids, all ids found, dataset -> hint


class _Record(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    score: float


def load_detections(path: Path, dataset: Dataset) -> Detections:
    """Read COCO results JSON, of any detector. An empty list is valid.

    Raises:
        FocalError: missing, unreadable, not a list of detections, ids that the dataset does not have, numbers that
            are not finite, boxes of negative size.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FocalError(f"{path}: no such file; {_SHAPE}", "give the results JSON that a detector wrote") from None
    except IsADirectoryError:
        raise FocalError(f"{path}: is a folder; {_SHAPE}", "give the results JSON in it") from None
    except OSError as error:
        raise FocalError(f"{path}: cannot be read ({error.strerror})", "check the file's permissions") from None
    try:
        records = msgspec.json.decode(data, type=list[_Record])
    except (msgspec.DecodeError, RecursionError):  # also NaN and 1.0 as an id, which only the slow path can judge
        records = _decode_slowly(path, data)

    image_ids = [record.image_id for record in records]
    category_ids = [record.category_id for record in records]
    known_categories = [category.id for category in dataset.categories]
    detections = Detections(
        image=_positions(path, dataset, "image_id", image_ids, dataset.image_ids, _image_hint),
        label=_positions(path, dataset, "category_id", category_ids, known_categories, _category_hint),
        boxes=np.array([record.bbox for record in records], dtype=np.float64).reshape(-1, 4),
        scores=np.array([record.score for record in records], dtype=np.float64),
    )
    refuse_unscorable(detections, str(path))
    return detections


def results_json(detections: Detections, dataset: Dataset) -> bytes:
    """COCO results JSON with the dataset's own ids: `load_detections` of it gives `detections.rounded()`."""
    rounded = detections.rounded()
    category_ids = [category.id for category in dataset.categories]
    columns = (rounded.image, rounded.label, rounded.boxes, rounded.scores)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return msgspec.json.encode(
        [_Record(dataset.image_ids[image], category_ids[label], tuple(box), score) for image, label, box, score in rows]
    )


def _positions(
    path: Path, dataset: Dataset, key: str, found: Sequence[Id], known: Sequence[Id], explain: _Explain
) -> Ints:
    """(D,) where each id stands in `known`."""
    position = {value: index for index, value in enumerate(known)}
    positions = np.fromiter((position.get(value, -1) for value in found), dtype=np.int64, count=len(found))
    if (positions < 0).any():
        unknown = list(dict.fromkeys(value for value in found if value not in position))
        raise FocalError(
            f"{path}: {(positions < 0).sum()} of {len(found)} detections have {key}s that are not in {dataset.path}: "
            f"{_first_few(unknown)}; expected one of {_first_few(known)}",
            explain(unknown, set(found), dataset),
        )
    return positions


def _first_few(values: Sequence[Id]) -> str:
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(map(repr, values[:5])) + more


def _as_written(unknown: Sequence[Id], known: set[Id]) -> str | None:
    """A hint when the ids differ only in being text on one side and numbers on the other."""
    if not {str(value) for value in known}.issuperset(map(str, unknown)):
        return None
    here, there = ("text", "numbers") if isinstance(unknown[0], str) else ("numbers", "text")
    return f"the ids are {here} in the detections and {there} in the dataset: write them as the dataset does"


def _image_hint(unknown: Sequence[Id], found: set[Id], dataset: Dataset) -> str:
    if hint := _as_written(unknown, set(dataset.image_ids)):
        return hint
    names = {*dataset.file_names, *(PurePosixPath(name).name for name in dataset.file_names)}
    names |= {PurePosixPath(name).stem for name in names}
    if names.issuperset(unknown):
        return "these are file names: write the `id` that `images` gives each of them"
    return "were they found in another split? Score them against the file that lists their images"


def _category_hint(unknown: Sequence[Id], found: set[Id], dataset: Dataset) -> str:
    known = {category.id for category in dataset.categories}
    if hint := _as_written(unknown, known):
        return hint
    if set(dataset.class_names).issuperset(unknown):
        return "these are names: write the `id` that `categories` gives each of them"
    if all(isinstance(value, int) for value in found):
        for shift, verb in ((1, "add 1 to"), (-1, "take 1 from")):
            if {value + shift for value in found} <= known:
                return f"they all fit after a shift by one: {verb} every category_id"
        if found <= set(range(len(known))):
            return f"they look like positions, 0 to {len(known) - 1}, in the categories sorted by id: write the ids"
    return "was the detector trained with another class list? category_id must be an `id` of `categories`"


# --------------------------------------------------------------------- the slow path: a file with something wrong in it


def _decode_slowly(path: Path, data: bytes) -> list[_Record]:
    """Record by record, to say which one is wrong and how."""
    try:
        content = json.loads(data)  # unlike msgspec it takes NaN and Infinity, which `refuse_unscorable` then names
    except UnicodeDecodeError as error:
        raise FocalError(f"{path}: not UTF-8 text (byte {error.start}); {_SHAPE}", "write it as JSON") from None
    except json.JSONDecodeError as error:
        end = " and the file ends there: it was cut short" if error.pos >= len(data) - 1 else ""
        raise FocalError(
            f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg.lower()}{end}); {_SHAPE}",
            "copy or write it again",
        ) from None
    except RecursionError:
        raise FocalError(f"{path}: JSON nested too deeply to be detections; {_SHAPE}", "write it again") from None
    if not isinstance(content, list):
        raise _not_a_list(path, content)
    return [_read_record(f"{path}: detection number {number}", entry) for number, entry in enumerate(content)]


def _not_a_list(path: Path, content: Any) -> FocalError:
    if not isinstance(content, dict):
        return FocalError(f"{path}: holds {type(content).__name__}, not detections; {_SHAPE}", "write it again")
    keys = ", ".join(list(content)[:6]) or "none"
    hint = "write the list alone, without an object around it"
    if "images" in content or "categories" in content:
        hint = "this is a dataset; the detections come first: `focal eval DETECTIONS.json DATASET`"
    return FocalError(f"{path}: an object (its keys: {keys}), not detections; {_SHAPE}", hint)


def _read_record(place: str, entry: Any) -> _Record:
    if not isinstance(entry, dict):
        raise FocalError(f"{place} is {type(entry).__name__}; {_SHAPE}", "write one object for each detection")
    missing = [key for key in _Record.__struct_fields__ if key not in entry]
    if missing:
        hint = "every detection needs image_id, category_id, bbox and score"
        if missing == ["score"]:
            hint = "without scores these are annotations; a detector's results have a score for each box"
        present = ", ".join(list(entry)[:8]) or "nothing"
        raise FocalError(f"{place} has no {' and no '.join(missing)} (it has {present}); {_SHAPE}", hint)
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        found = f"{len(box)} numbers" if isinstance(box, list) else repr(box)[:40]
        raise FocalError(f"{place}: bbox is {found}, expected [x, y, width, height]", "write four numbers for each box")
    return _Record(
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
