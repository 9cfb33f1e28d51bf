"""Two detectors on one dataset: how much each class gained, and whether that is more than the luck of the images.

Both are scored on the same draws of images, round by round, so that what an easy or a hard draw does to both cancels
(the paired bootstrap): differences are told apart that the intervals of the two tables would not.

Interval and p-value come from the standard error over the rounds and Student's distribution, with n - 1 degrees of
freedom where n images hold the class: percentiles of the rounds are too narrow where n is small. Of equal detectors
they held 0 in 89 % of the classes with 5 images and 93 % with 40, these intervals in 97 and 94 %
(tests/bench/comparison.py). A p-value is at least 2^(1 - n): so often would a coin thrown for each image give all of
them to the same detector. With many classes some differ by chance, so p-values are adjusted for their number after
Holm.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 6, 12 and 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from focalcli.chance import holm, t_quantile, t_tail
from focalcli.coco import Dataset, Floats, Id
from focalcli.detections import Detections
from focalcli.evaluation.accumulate import precision_and_recall
from focalcli.evaluation.ap import ApTable, evaluate
from focalcli.evaluation.bootstrap import CONFIDENCE, Interval, Replicates, draws, replicates
from focalcli.evaluation.matching import rank

Metric = Literal["AP", "AP50"]
METRICS: tuple[Metric, ...] = ("AP", "AP50")
BY_CHANCE = 1 - CONFIDENCE  # the p-value below which a difference counts as real
FEWEST_IMAGES = 6  # that hold a class: with one less, 2^(1 - n) is not below BY_CHANCE, so testing it tells nothing


@dataclass(frozen=True)
class Difference:
    """One figure of one class, or of their mean: the second detector's less the first one's.

    Attributes:
        interval: where the difference lies by the luck of the images, 95 %; None where it is undefined.
        p_value: of a difference this large by chance alone; None where less than FEWEST_IMAGES hold the class.
        adjusted: the same for the number of classes that are tested.
    """

    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None = None
    p_value: float | None = None
    adjusted: float | None = None

    @property
    def real(self) -> bool:
        return self.adjusted is not None and self.adjusted < BY_CHANCE


@dataclass(frozen=True)
class ClassDifference:
    """One class; `category_id` is None for the mean over the classes, and where it is not known."""

    name: str
    category_id: Id | None
    n_val: int
    AP: Difference
    AP50: Difference

    def of(self, metric: Metric) -> Difference:
        return self.AP if metric == "AP" else self.AP50


@dataclass(frozen=True)
class Comparison:
    """Of two detectors, per class and in the mean.

    Attributes:
        rounds: of the bootstrap; 0 where there were only figures to compare, so nothing is known to be real.
    """

    classes: tuple[ClassDifference, ...]
    mean: ClassDifference
    rounds: int

    def by_evidence(self, metric: Metric) -> tuple[ClassDifference, ...]:
        """The classes, the least likely by chance first, then the largest difference, undefined ones last."""

        def key(entry: ClassDifference) -> tuple[float, float]:
            of = entry.of(metric)
            return (
                2.0 if of.p_value is None else of.p_value,
                math.inf if of.difference is None else -abs(of.difference),
            )

        return tuple(sorted(self.classes, key=key))

    def seemingly_real(self, metric: Metric) -> int:
        """Classes that would look real if each of them were the only one."""
        return sum((entry.of(metric).p_value or 1.0) < BY_CHANCE for entry in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "bootstrap_rounds": self.rounds,
            "confidence": CONFIDENCE,
            "mean": _row(self.mean),
            "classes": [_row(entry) for entry in self.classes],
        }


@dataclass(frozen=True)
class Measured:
    """One detector's figures, and what they are in every draw of the images; of `measure`.

    Attributes:
        scored: indices into Dataset.categories of the classes that have objects, the columns of `luck`.
        images: how many images hold each class of `scored`, and any of them in the last place.
    """

    table: ApTable
    luck: Replicates
    scored: tuple[int, ...]
    images: tuple[int, ...]
    rounds: int


def measure(
    dataset: Dataset,
    detections: Detections,
    *,
    labels: Iterable[int] | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Measured:
    """Score a detector on the draws of images that `seed` gives.

    Args:
        labels: look only at these indices into dataset.categories.

    Raises:
        FocalError: as evaluate.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    table = evaluate(dataset, detections, labels=chosen)
    scored = [label for label in chosen if dataset.objects_per_class[label] > 0]
    ranked = rank(dataset, detections, scored)
    matches = precision_and_recall(dataset, ranked, scored)[2]
    luck = replicates(dataset, ranked, matches, scored, draws(len(dataset.image_ids), rounds, seed))
    objects = ~dataset.iscrowd & np.isin(dataset.box_label, scored)
    images = [*dataset.images_per_class[scored].tolist(), len(np.unique(dataset.box_image[objects]))]
    return Measured(table, luck, tuple(scored), tuple(images), rounds)


def compare(before: Measured, after: Measured) -> Comparison:
    """Compare two detectors that were measured on the same dataset with the same labels, rounds and seed."""
    by_id = {entry.category_id: column for column, entry in enumerate(e for e in before.table.classes if e.n_val)}
    classes = []
    for a, b in zip(before.table.classes, after.table.classes, strict=True):
        column = by_id.get(a.category_id)
        both = {}
        for name in METRICS:
            if column is None:
                both[name] = Difference(None, None, None)
            else:
                values = after.luck.mean(name, [column]) - before.luck.mean(name, [column])
                both[name] = _difference(getattr(a, name), getattr(b, name), values, before.images[column])
        classes.append(ClassDifference(a.name, a.category_id, a.n_val, **both))
    for name in METRICS:
        defined = [n for n, entry in enumerate(classes) if entry.of(name).p_value is not None]
        adjusted = holm(np.array([classes[n].of(name).p_value for n in defined]))
        for n, value in zip(defined, adjusted.tolist(), strict=True):
            classes[n] = replace(classes[n], **{name: replace(classes[n].of(name), adjusted=value)})
    everywhere = list(range(len(before.scored)))
    means = {}
    for name in METRICS:
        values = after.luck.mean(name, everywhere) - before.luck.mean(name, everywhere)
        one = _difference(before.table.summary[name], after.table.summary[name], values, before.images[-1])
        means[name] = replace(one, adjusted=one.p_value)
    mean = ClassDifference("all", None, before.table.n_objects, **means)
    return Comparison(tuple(classes), mean, before.rounds)


def _difference(before: float | None, after: float | None, rounds: Floats, images: int) -> Difference:
    """`rounds`: the difference in each of them, NaN where it is undefined. `images`: that hold objects."""
    if before is None or after is None:
        return Difference(before, after, None)
    change = after - before
    defined = rounds[~np.isnan(rounds)]
    if images < 2 or 2 * len(defined) < len(rounds) or len(defined) < 2:
        return Difference(before, after, change)
    error = float(defined.std()) * math.sqrt(images / (images - 1))
    reach = t_quantile(CONFIDENCE, images - 1) * error
    p_value = t_tail(change / error, images - 1) if error > 0 else float(change == 0)
    ends = max(-1.0, change - reach), min(1.0, change + reach)
    return Difference(
        before, after, change, ends, max(p_value, 2.0 ** (1 - images)) if images >= FEWEST_IMAGES else None
    )


def _row(entry: ClassDifference) -> dict[str, Any]:
    row = asdict(entry)
    for name in METRICS:
        row[name]["real"] = entry.of(name).real
    return row
