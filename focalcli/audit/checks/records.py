"""What the annotation file alone shows of its records: what the loader met, and ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from focalcli.audit.checks.boxes import of_boxes
from focalcli.audit.checks.categories import of_categories
from focalcli.audit.checks.finding import make
from focalcli.audit.report import PLACES, Finding
from focalcli.coco import Dataset, Defect, Id

EXACT = 1 << 53  # whole numbers beyond it are rounded by programs that keep numbers as doubles


def of_file(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the annotation file alone shows."""
    yield from _loader_defects(split, dataset)
    yield from _annotation_id_zero(split, dataset)
    yield from _no_object(split, dataset)
    yield from _huge_ids(split, dataset)
    yield from _repeated_file_names(split, dataset)
    yield from of_boxes(split, dataset)
    yield from of_categories(split, dataset)


def _loader_defects(split: str, dataset: Dataset) -> Iterator[Finding]:
    by_code: dict[str, list[Defect]] = defaultdict(list)
    for defect in dataset.defects:
        by_code[defect.code].append(defect)
    for code, defects in by_code.items():
        yield make(
            code,
            split,
            defects[0].text,
            count=sum(defect.count for defect in defects),
            image_ids=[defect.image_id for defect in defects if defect.image_id is not None],
            annotation_ids=[defect.annotation_id for defect in defects if defect.annotation_id is not None],
        )


def _annotation_id_zero(split: str, dataset: Dataset) -> Iterator[Finding]:
    rows = np.flatnonzero(dataset.annotation_ids == 0)
    if rows.size:
        images = [dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]]
        message = "pycocotools reads a match with id 0 as no match"
        yield make("F005", split, message, count=len(rows), image_ids=images, annotation_ids=[0] * len(rows))


def _no_object(split: str, dataset: Dataset) -> Iterator[Finding]:
    if dataset.iscrowd.all():
        crowds = f"; its {len(dataset.iscrowd):,} annotations are crowds" * bool(len(dataset.iscrowd))
        message = f"{len(dataset.image_ids):,} images and not one object that can be used{crowds}"
        yield make("F006", split, message, count=1)


def _huge_ids(split: str, dataset: Dataset) -> Iterator[Finding]:
    ids = dataset.annotation_ids
    annotations = _huge((ids if ids.dtype == object else ids[np.abs(ids) > EXACT]).tolist())
    images = _huge(dataset.image_ids)
    categories = _huge([category.id for category in dataset.categories])
    if huge := [*annotations, *images, *categories]:
        message = f"id {huge[0]} is above 2^53"
        yield make("F007", split, message, count=len(huge), image_ids=images, annotation_ids=annotations)


def _huge(ids: Sequence[Id]) -> list[Id]:
    return [value for value in ids if isinstance(value, int) and abs(value) > EXACT]


def _repeated_file_names(split: str, dataset: Dataset) -> Iterator[Finding]:
    first: dict[str, int] = {}
    if len(set(dataset.file_names)) == len(dataset.file_names):
        return
    repeats = [
        index for index, name in enumerate(dataset.file_names) if name and first.setdefault(name, index) != index
    ]
    if repeats:
        name, again = dataset.file_names[repeats[0]], dataset.image_ids[repeats[0]]
        message = f"images {dataset.image_ids[first[name]]!r} and {again!r} are both {name!r}"
        ids = [dataset.image_ids[index] for index in repeats[:PLACES]]
        yield make("F308", split, message, count=len(repeats), image_ids=ids)
