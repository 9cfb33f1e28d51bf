"""What is uneven in the training split: between classes, sizes, places and pictures; and crowding in any split."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from focalcli.audit.checks.finding import few, make, percent
from focalcli.audit.figures import MAX_DETECTIONS, SIDE_EDGES, FirstLoss
from focalcli.audit.pairs import Pairs
from focalcli.audit.report import PLACES, ClassRow, Finding, SplitReport
from focalcli.coco import GROUP_IMAGES, Dataset

LONG_TAIL = 100.0
CHANCE = 0.01  # of a class being always beside the head, over all classes
TINY_PX, TINY_BOXES = 16, 10
CUT_OFF_BOXES = 30


def of_balance(report: SplitReport, dataset: Dataset, pairs: Pairs, first_loss: FirstLoss) -> Iterator[Finding]:
    """What is uneven in the training split. pairs: of the dataset."""
    present = [row for row in report.classes if row.instances]
    yield from _rare(report, dataset, pairs, present)
    yield from _long_tail(report, present)
    yield from _only_with_head(report, present)
    yield from _mostly_tiny(report, present)
    yield from _mostly_cut_off(report, present)
    yield from _mostly_empty(report, dataset, pairs)
    if first_loss.negatives is not None and first_loss.negatives > 0.5:
        yield make("F608", report.name, _first_loss(first_loss), count=len(present))


def of_crowding(report: SplitReport, dataset: Dataset, pairs: Pairs) -> Iterator[Finding]:
    """Pictures whose objects COCO's evaluation cannot all count."""
    if not report.layout.crowded:
        return
    worst = int(np.argmax(pairs.objects))
    objects = pairs.objects[pairs.label == pairs.label[worst]]
    reachable = np.minimum(objects, MAX_DETECTIONS).sum() / objects.sum()
    images = np.unique(pairs.image[pairs.objects > MAX_DETECTIONS])
    yield make(
        "F607",
        report.name,
        f"{dataset.class_names[pairs.label[worst]]!r} has {pairs.objects[worst]:,} objects in one picture; scored by "
        f"{MAX_DETECTIONS} detections a picture, its recall cannot pass {math.floor(1000 * reachable) / 10:g} %",
        count=len(images),
        image_ids=[dataset.image_ids[index] for index in images[:PLACES]],
    )


def _rare(report: SplitReport, dataset: Dataset, pairs: Pairs, present: list[ClassRow]) -> Iterator[Finding]:
    rare = sorted((row for row in present if row.images <= GROUP_IMAGES["rare"][1]), key=lambda row: row.images)
    if rare:
        images = pairs.image[pairs.label == report.classes.index(rare[0])][:PLACES]
        yield make(
            "F601",
            report.name,
            f"pictures: {few([f'{row.name!r} {row.images}' for row in rare])}",
            count=len(rare),
            image_ids=[dataset.image_ids[index] for index in images],
        )


def _long_tail(report: SplitReport, present: list[ClassRow]) -> Iterator[Finding]:
    if report.head_tail is None or report.head_tail < LONG_TAIL:
        return
    head, tail = max(present, key=lambda row: row.instances), min(present, key=lambda row: row.instances)
    below = sum(row.instances * LONG_TAIL <= head.instances for row in present)
    message = (
        f"{report.head_tail:,.0f}:1 from {head.name!r} ({head.instances:,} objects) to {tail.name!r} "
        f"({tail.instances:,}); with at most 1 % of the head's objects: {below} of {len(present):,} classes"
    )
    yield make("F602", report.name, message, count=below)


def _only_with_head(report: SplitReport, present: list[ClassRow]) -> Iterator[Finding]:
    head = max(present, key=lambda row: row.images, default=None)
    found = [
        row
        for row in present
        if row.company.only_with_head
        and len(present) * _probability_of_all(row.images, head.images, report.n_images) < CHANCE
    ]
    if found:
        found.sort(key=lambda row: -row.images)
        words = [f"{row.name!r} ({row.images:,})" for row in found]
        message = (
            f"all pictures of {few(words)} hold {head.name!r}, which is in {percent(head.images / report.n_images)} of "
            "all pictures"
        )
        yield make("F603", report.name, message, count=len(found))


def _probability_of_all(drawn: int, marked: int, total: int) -> float:
    """That all of `drawn` pictures are marked ones, drawn without replacement: C(marked, drawn) / C(total, drawn)."""
    a, b, c, d = (math.lgamma(n + 1) for n in (marked, total - drawn, marked - drawn, total))
    return math.exp(a + b - c - d)


def _mostly_tiny(report: SplitReport, present: list[ClassRow]) -> Iterator[Finding]:
    bins = SIDE_EDGES.index(TINY_PX)
    tiny = []
    for row in present:
        n = sum(row.scale.at_network)
        if n >= TINY_BOXES and 2 * sum(row.scale.sides[:bins]) > n:
            tiny.append((sum(row.scale.sides[:bins]), n, row))
    if tiny:
        tiny.sort(key=lambda found: -found[0])
        words = [
            f"{row.name!r} {percent(below / n)} of {n:,} boxes under {TINY_PX} px, median "
            f"{row.scale.side_at_network[2]:.0f} px"
            for below, n, row in tiny
        ]
        yield make("F604", report.name, few(words, 2), count=len(tiny))


def _mostly_cut_off(report: SplitReport, present: list[ClassRow]) -> Iterator[Finding]:
    cut = [row for row in present if row.instances >= CUT_OFF_BOXES and 2 * row.scale.at_border > row.instances]
    if cut:
        cut.sort(key=lambda row: -row.scale.at_border)
        words = [
            f"{row.name!r} {percent(row.scale.at_border / row.instances)} of {row.instances:,} boxes" for row in cut
        ]
        yield make("F605", report.name, f"they end at the border: {few(words)}", count=len(cut))


def _mostly_empty(report: SplitReport, dataset: Dataset, pairs: Pairs) -> Iterator[Finding]:
    if report.n_objects and 2 * report.n_empty > report.n_images:
        held = np.bincount(pairs.image, minlength=report.n_images)
        ids = [dataset.image_ids[index] for index in np.flatnonzero(held == 0)[:PLACES]]
        message = f"{report.n_empty:,} of {report.n_images:,} pictures have no object"
        yield make("F606", report.name, message, count=report.n_empty, image_ids=ids)


def _first_loss(loss: FirstLoss) -> str:
    named = zip(("alpha", "gamma", "prior"), (loss.alpha, loss.gamma, loss.prior), strict=True)
    values = ", ".join(f"{name} {'by class' if value is None else f'{value:g}'}" for name, value in named)
    return f"negatives carry {100 * loss.negatives:.1f} % of the first loss at {values} ({loss.source})"
