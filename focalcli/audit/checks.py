"""Dataset -> findings, one function per check. The pages, with the reasons, are in rules.py.

Each check yields one finding for a rule and a split, which counts all the records it stands for and names the first.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from focalcli.anchors import FOREGROUND_IOU, LEVELS
from focalcli.audit.report import PLACES, ClassRow, Finding, Severity, SplitReport
from focalcli.audit.rules import RULES
from focalcli.coco import Dataset, Defect, Floats, Id, Ints, escapes_root
from focalcli.errors import FocalError

SAME_BOX_IOU = 0.98
BORDER_PX = 1.0  # beyond it a box is not just rounded
MISSED_SHARE = 0.1  # of a class's boxes
COARSE_SHARE, COARSE_CELLS, STARVED_SHARE = 0.25, 2.5, 0.1
FEW_OBJECTS = 10
UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)
EXIF_ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


def _finding(
    code: str,
    split: str,
    message: str,
    *,
    count: int,
    image_ids: Sequence[Id] = (),
    annotation_ids: Sequence[Id] = (),
    severity: Severity | None = None,
    hint: str | None = None,
) -> Finding:
    """A finding with its rule's severity and hint, unless this case has its own."""
    rule = RULES[code]
    return Finding(
        code=code,
        severity=severity or rule.severity,
        title=rule.name,
        message=message,
        split=split,
        image_ids=tuple(image_ids[:PLACES]),
        annotation_ids=tuple(annotation_ids[:PLACES]),
        count=count,
        unit=rule.unit,
        hint=hint or rule.fix,
    )


def _few(words: Sequence[str], limit: int = 4) -> str:
    """The first few, and how many more."""
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# ---------------------------------------------------------------------------------------------------- within one file


def of_file(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the annotation file alone shows."""
    yield from _loader_defects(split, dataset)
    yield from _annotation_id_zero(split, dataset)
    yield from _duplicate_boxes(split, dataset)
    yield from _boxes_beyond_border(split, dataset)


def _loader_defects(split: str, dataset: Dataset) -> Iterator[Finding]:
    by_code: dict[str, list[Defect]] = defaultdict(list)
    for defect in dataset.defects:
        by_code[defect.code].append(defect)
    for code, defects in by_code.items():
        yield _finding(
            code,
            split,
            defects[0].text,
            count=len(defects),
            image_ids=[defect.image_id for defect in defects if defect.image_id is not None],
            annotation_ids=[defect.annotation_id for defect in defects if defect.annotation_id is not None],
        )


def _annotation_id_zero(split: str, dataset: Dataset) -> Iterator[Finding]:
    rows = [row for row, value in enumerate(dataset.annotation_ids) if value == 0]
    if rows:
        images = [dataset.image_ids[dataset.box_image[row]] for row in rows]
        message = "pycocotools reads a match with id 0 as no match"
        yield _finding("F005", split, message, count=len(rows), image_ids=images, annotation_ids=[0] * len(rows))


def _duplicate_boxes(split: str, dataset: Dataset) -> Iterator[Finding]:
    first, second, iou = duplicate_pairs(dataset)
    if not len(first):
        return
    one, two = dataset.annotation_ids[first[0]], dataset.annotation_ids[second[0]]
    name = dataset.class_names[dataset.box_label[first[0]]]
    repeated = np.unique(second)
    yield _finding(
        "F104",
        split,
        f"annotation {two} repeats {one} ({name!r}, IoU {iou[0]:.2f})",
        count=len(repeated),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in repeated[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in repeated[:PLACES]],
    )


def duplicate_pairs(dataset: Dataset) -> tuple[Ints, Ints, Floats]:
    """(P,) first and second box, in the file's order, and IoU of every two that are the same, sorted by the second.

    Two boxes whose left edges are d apart have an IoU of at most 1 - d / w, w the width of the left one. So in each
    picture and class, sorted by x, a box needs to look only as far as 0.02 w.
    """
    rows = np.flatnonzero(~dataset.iscrowd)
    x, y, w, h = dataset.boxes[rows].T
    group = dataset.box_image[rows] * len(dataset.categories) + dataset.box_label[rows]
    order = np.lexsort((x, group))
    rows, x, y, w, h, group = (column[order] for column in (rows, x, y, w, h, group))
    left, found = np.arange(len(rows)), []
    step = 1
    while left.size:
        left = left[left + step < len(rows)]
        right = left + step
        near = (group[left] == group[right]) & (x[right] - x[left] <= (1 - SAME_BOX_IOU) * w[left])
        left, right = left[near], right[near]
        inter_w = np.minimum(x[left] + w[left], x[right] + w[right]) - x[right]
        inter_h = np.minimum(y[left] + h[left], y[right] + h[right]) - np.maximum(y[left], y[right])
        inter = np.maximum(inter_w, 0) * np.maximum(inter_h, 0)
        iou = inter / (w[left] * h[left] + w[right] * h[right] - inter)
        same = iou >= SAME_BOX_IOU
        found.append((rows[left[same]], rows[right[same]], iou[same]))
        step += 1
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none.astype(np.float64)
    a, b, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(np.maximum(a, b), kind="stable")
    return np.minimum(a, b)[order], np.maximum(a, b)[order], iou[order]


def _boxes_beyond_border(split: str, dataset: Dataset) -> Iterator[Finding]:
    x, y, w, h = dataset.boxes.T
    wh = dataset.image_wh[dataset.box_image]
    beyond = np.max([-x, -y, x + w - wh[:, 0], y + h - wh[:, 1]], axis=0, initial=-np.inf)
    rows = np.flatnonzero((wh > 0).all(axis=1) & (beyond > BORDER_PX))
    if rows.size:
        box, (width, height) = dataset.boxes[rows[0]], wh[rows[0]]
        text = ", ".join(f"{value:g}" for value in box)
        yield _finding(
            "F107",
            split,
            f"box [{text}] in {width} x {height}; the worst reaches {beyond[rows].max():,.1f} px beyond the border",
            count=len(rows),
            image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
            annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
        )


# -------------------------------------------------------------------------------------------------------- the pictures


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
        yield _finding("F304", split, message, count=len(indices), image_ids=_ids(dataset, indices))


def _missing(split: str, dataset: Dataset, indices: list[int], expected: int) -> Iterator[Finding]:
    if not indices:
        return
    name = dataset.file_names[indices[0]]
    if len(indices) == expected:
        message = f"none of {expected:,} pictures is below {dataset.image_root} (the first: {name!r}); headers not read"
        hint = "`--images DIR` names the folder that file_name is relative to"
        yield _finding("F302", split, message, count=expected, severity="warning", hint=hint)
    else:
        message = f"{name!r} is not below {dataset.image_root}"
        yield _finding("F302", split, message, count=len(indices), image_ids=_ids(dataset, indices))


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
        yield _finding("F305", split, message, count=len(differs), image_ids=_ids(dataset, differs))
    if turned:
        yield _finding("F306", split, _frames(dataset, turned), count=len(turned), image_ids=_ids(dataset, turned))
    if unreadable:
        index, problem = next(iter(unreadable.items()))
        message = f"{dataset.file_names[index]!r}: {problem}"
        yield _finding("F307", split, message, count=len(unreadable), image_ids=_ids(dataset, unreadable))


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


# ------------------------------------------------------------------------------------------------------ between splits


def of_splits(splits: Mapping[str, Dataset], reference: str) -> Iterator[Finding]:
    """What only a comparison with the training split shows."""
    train = splits[reference]
    yield from _ghost_categories(splits, reference)
    for name, other in splits.items():
        if name != reference:
            yield from _categories_differ(name, other, reference, train)
            yield from _few_objects(name, other, train)


def _ghost_categories(splits: Mapping[str, Dataset], reference: str) -> Iterator[Finding]:
    train = splits[reference]
    ghosts = [train.categories[label] for label in np.flatnonzero(train.objects_per_class == 0)]
    if not ghosts or not train.objects_per_class.any():
        return
    words = _few([f"{category.name!r} (id {category.id})" for category in ghosts])
    elsewhere = [
        f"{name} has {int(other.objects_per_class[other.class_names.index(category.name)])} of {category.name!r}"
        for name, other in splits.items()
        for category in ghosts
        if category.name in other.class_names and other.objects_per_class[other.class_names.index(category.name)]
    ]
    message = words + (f"; but {_few(elsewhere, 2)}" if elsewhere else "")
    yield _finding("F205", reference, message, count=len(ghosts))


def _categories_differ(split: str, other: Dataset, reference: str, train: Dataset) -> Iterator[Finding]:
    ours = {category.name: category.id for category in train.categories}
    theirs = {category.name: category.id for category in other.categories}
    extra = [repr(name) for name in theirs if name not in ours]
    absent = [repr(name) for name in ours if name not in theirs]
    if extra or absent:
        parts = [f"has {_few(extra)}, which {reference} has not"] * bool(extra)
        parts += [f"lacks {_few(absent)} of {reference}"] * bool(absent)
        yield _finding("F501", split, "; ".join(parts), count=len(extra) + len(absent))
        return
    moved = [name for name in ours if ours[name] != theirs[name]]
    if moved:
        words = [f"{name!r} is {theirs[name]!r} here and {ours[name]!r} in {reference}" for name in moved]
        message = f"same names, other ids: {_few(words, 2)}"
        yield _finding("F501", split, message, count=len(moved), severity="warning")


def _few_objects(split: str, other: Dataset, train: Dataset) -> Iterator[Finding]:
    trained = {name for name, n in zip(train.class_names, train.objects_per_class, strict=True) if n}
    counted = dict(zip(other.class_names, other.objects_per_class.tolist(), strict=True))
    few = sorted((counted.get(name, 0), name) for name in trained if counted.get(name, 0) < FEW_OBJECTS)
    if few:
        words = [f"{name!r} {n or 'none'}" for n, name in few]
        yield _finding("F502", split, f"objects: {_few(words)}", count=len(few))


# ------------------------------------------------------------------------------------------------------------- anchors


def of_anchors(report: SplitReport, dataset: Dataset, best_iou: Floats) -> Iterator[Finding]:
    """What the anchors of the training split do to its classes. best_iou: (B,) of each box with its best anchor."""
    yield from _anchors_miss_boxes(report, dataset, best_iou)
    yield from _level_too_coarse(report)


def _anchors_miss_boxes(report: SplitReport, dataset: Dataset, best_iou: Floats) -> Iterator[Finding]:
    missed = [row for row in report.classes if row.anchors.boxes and 1 - row.anchors.reached > MISSED_SHARE]
    if not missed:
        return
    missed.sort(key=lambda row: -row.anchors.boxes * (1 - row.anchors.reached))  # the most boxes, not the rarest class
    words = [
        f"{row.name!r} {_percent(1 - row.anchors.reached)} of {row.anchors.boxes:,} box{'es' * (row.anchors.boxes > 1)}"
        for row in missed
    ]
    rows = np.flatnonzero((best_iou < FOREGROUND_IOU) & (dataset.box_label == report.classes.index(missed[0])))
    yield _finding(
        "F401",
        report.name,
        f"no anchor with IoU >= 0.5 for {_few(words)}",
        count=len(missed),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
    )


def _level_too_coarse(report: SplitReport) -> Iterator[Finding]:
    held = report.anchors.levels
    coarse = [(row, level) for row in report.classes for level in _coarse_levels(row, held)]
    if coarse:
        words = [
            f"{row.name!r} has {_percent(row.anchors.levels[level])} of its positives on {LEVELS[level]}, where it "
            f"spans {row.anchors.cells[level]:.1f} cells a side and {_percent(held[level])} of all positives lie"
            for row, level in coarse
        ]
        yield _finding("F402", report.name, _few(words, 2), count=len(coarse))


def _coarse_levels(row: ClassRow, all_levels: Sequence[float | None]) -> list[int]:
    """The starved levels that the class depends on."""
    columns = zip(row.anchors.levels, row.anchors.cells, all_levels, strict=True)
    return [
        level
        for level, (share, cells, held) in enumerate(columns)
        if share is not None and share >= COARSE_SHARE and cells < COARSE_CELLS and held < STARVED_SHARE
    ]
