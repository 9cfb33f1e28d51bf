"""What the annotation file alone shows of its records: what the loader met, and ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from focalcli.audit.checks import boxes
from focalcli.audit.checks.finding import make
from focalcli.audit.report import Finding
from focalcli.coco import Dataset, Defect


def of_file(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the annotation file alone shows."""
    yield from _loader_defects(split, dataset)
    yield from _annotation_id_zero(split, dataset)
    yield from boxes.duplicates(split, dataset)
    yield from boxes.beyond_border(split, dataset)


def _loader_defects(split: str, dataset: Dataset) -> Iterator[Finding]:
    by_code: dict[str, list[Defect]] = defaultdict(list)
    for defect in dataset.defects:
        by_code[defect.code].append(defect)
    for code, defects in by_code.items():
        yield make(
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
        yield make("F005", split, message, count=len(rows), image_ids=images, annotation_ids=[0] * len(rows))
