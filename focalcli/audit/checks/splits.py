"""What only a comparison with the training split shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from focalcli.audit.checks.finding import few, make, percent
from focalcli.audit.figures import ClassDrift, Drift
from focalcli.audit.report import Finding
from focalcli.coco import Dataset

FEW_OBJECTS = 10
Z95 = 1.959964  # standard normal deviations that hold 95 %
DRIFT_P, DRIFT_RATIO = 0.01, 1.5  # shifts that are surer than this, and at least so large


def of_splits(splits: Mapping[str, Dataset], reference: str, drifts: Iterable[Drift]) -> Iterator[Finding]:
    """What only a comparison with the training split shows. drifts: of the other splits."""
    train = splits[reference]
    yield from _ghost_categories(splits, reference)
    for name, other in splits.items():
        if name != reference:
            yield from _categories_differ(name, other, reference, train)
            yield from _few_objects(name, other, train)
    for drift in drifts:
        yield from _class_drift(drift, len(splits[drift.split].image_ids), reference, len(train.image_ids))


def _ghost_categories(splits: Mapping[str, Dataset], reference: str) -> Iterator[Finding]:
    train = splits[reference]
    ghosts = [train.categories[label] for label in np.flatnonzero(train.objects_per_class == 0)]
    if not ghosts or not train.objects_per_class.any():
        return
    words = few([f"{category.name!r} (id {category.id})" for category in ghosts])
    elsewhere = [
        f"{name} has {int(other.objects_per_class[other.class_names.index(category.name)])} of {category.name!r}"
        for name, other in splits.items()
        for category in ghosts
        if category.name in other.class_names and other.objects_per_class[other.class_names.index(category.name)]
    ]
    message = words + (f"; but {few(elsewhere, 2)}" if elsewhere else "")
    yield make("F205", reference, message, count=len(ghosts))


def _categories_differ(split: str, other: Dataset, reference: str, train: Dataset) -> Iterator[Finding]:
    ours = {category.name: category.id for category in train.categories}
    theirs = {category.name: category.id for category in other.categories}
    extra = [repr(name) for name in theirs if name not in ours]
    absent = [repr(name) for name in ours if name not in theirs]
    if extra or absent:
        parts = [f"has {few(extra)}, which {reference} has not"] * bool(extra)
        parts += [f"lacks {few(absent)} of {reference}"] * bool(absent)
        yield make("F501", split, "; ".join(parts), count=len(extra) + len(absent))
        return
    moved = [name for name in ours if ours[name] != theirs[name]]
    if moved:
        words = [f"{name!r} is {theirs[name]!r} here and {ours[name]!r} in {reference}" for name in moved]
        message = f"same names, other ids: {few(words, 2)}"
        yield make("F501", split, message, count=len(moved), severity="warning")


def _few_objects(split: str, other: Dataset, train: Dataset) -> Iterator[Finding]:
    trained = {name for name, n in zip(train.class_names, train.objects_per_class, strict=True) if n}
    counted = dict(zip(other.class_names, other.objects_per_class.tolist(), strict=True))
    scarce = sorted((counted.get(name, 0), name) for name in trained if counted.get(name, 0) < FEW_OBJECTS)
    if scarce:
        words = [f"{name!r} {n} ({_half_found(n)})" if n else f"{name!r} none" for n, name in scarce]
        yield make("F502", split, f"objects: {few(words)}", count=len(scarce))


def _half_found(n: int) -> str:
    """Wilson's 95 % interval of a recall of one half measured on n objects: 1/2 +- z / (2 sqrt(n + z^2))."""
    half_width = Z95 / (2 * math.sqrt(n + Z95**2))
    return f"a measured 50 % means {100 * (0.5 - half_width):.0f} to {percent(0.5 + half_width)}"


def _class_drift(drift: Drift, n: int, reference: str, n_train: int) -> Iterator[Finding]:
    """n, n_train: pictures of the two splits. A class that one of them lacks is F502's, F501's or F205's business."""

    def share(row: ClassDrift) -> tuple[float, float]:
        return row.images / n, row.train_images / n_train

    moved = [row for row in drift.classes if row.adjusted < DRIFT_P and row.images and row.train_images]
    moved = [row for row in moved if max(share(row)) >= DRIFT_RATIO * min(share(row))]
    if moved:
        words = [
            f"{row.name!r} is in {percent(share(row)[0])} of {drift.split}'s pictures and in {percent(share(row)[1])} "
            f"of {reference}'s (p {row.adjusted:.1g})"
            for row in moved
        ]
        yield make("F504", drift.split, few(words, 2), count=len(moved))
