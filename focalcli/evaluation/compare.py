"""Two detectors on one dataset: how much each class gained, and whether that is more than the luck of the images.

Both are scored on the same draws of images, round by round, so that what an easy or a hard draw does to both cancels
(the paired bootstrap): differences are told apart that the intervals of the two tables would not.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from focalcli.coco import Dataset, Floats, Id
from focalcli.detections import Detections
from focalcli.evaluation.accumulate import precision_and_recall
from focalcli.evaluation.ap import ApTable, evaluate
from focalcli.evaluation.bootstrap import CONFIDENCE, Interval, Replicates, draws, interval, replicates
from focalcli.evaluation.matching import rank


@dataclass(frozen=True)
class Difference:
    """One figure of one class, or of their mean: the second detector's less the first one's.

    Attributes:
        interval: where the difference lies by the luck of the images; None where it is undefined.
        real: 0 is not in the interval. Of 20 classes without any difference one is expected to look real.
    """

    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None

    @property
    def real(self) -> bool:
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class ClassDifference:
    """One class; `category_id` is None for the mean over the classes."""

    name: str
    category_id: Id | None
    n_val: int
    AP: Difference
    AP50: Difference


@dataclass(frozen=True)
class Comparison:
    """Of two detectors, per class and in the mean."""

    classes: tuple[ClassDifference, ...]
    mean: ClassDifference
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema_version": 1,
            "kind": "comparison",
            "bootstrap_rounds": self.rounds,
            "confidence": CONFIDENCE,
            "mean": _row(self.mean),
            "classes": [_row(entry) for entry in self.classes],
        }


def compare(
    dataset: Dataset,
    before: Detections,
    after: Detections,
    *,
    labels: Iterable[int] | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two detectors on the same dataset.

    Args:
        labels: look only at these indices into dataset.categories.

    Raises:
        FocalError: as evaluate.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    tables = [evaluate(dataset, each, labels=chosen) for each in (before, after)]
    scored = [label for label in chosen if dataset.objects_per_class[label] > 0]
    weights = draws(len(dataset.image_ids), rounds, seed)
    luck = []
    for each in (before, after):
        ranked = rank(dataset, each, scored)
        matches = precision_and_recall(dataset, ranked, scored)[2]
        luck.append(replicates(dataset, ranked, matches, scored, weights))
    classes = []
    for number, label in enumerate(chosen):
        places = [scored.index(label)] if label in scored else []
        entry = tables[0].classes[number]
        classes.append(
            ClassDifference(entry.name, entry.category_id, entry.n_val, **_both(tables, luck, number, places))
        )
    everywhere = list(range(len(scored)))
    mean = ClassDifference("all", None, tables[0].n_objects, **_both(tables, luck, None, everywhere))
    return Comparison(tuple(classes), mean, rounds)


def _both(
    tables: list[ApTable], luck: list[Replicates], number: int | None, places: list[int]
) -> dict[str, Difference]:
    """AP and AP50 of the class `number` of the tables, or of the summary for None; `places` are those in `luck`."""
    result = {}
    for name in ("AP", "AP50"):
        a, b = (table.summary[name] if number is None else getattr(table.classes[number], name) for table in tables)
        if a is None or b is None:
            result[name] = Difference(a, b, None, None)
            continue
        rounds: Floats = luck[1].mean(name, places) - luck[0].mean(name, places)
        result[name] = Difference(a, b, b - a, interval(rounds, b - a, least=-1.0))
    return result


def _row(entry: ClassDifference) -> dict[str, Any]:
    row = asdict(entry)
    for name in ("AP", "AP50"):
        row[name]["real"] = getattr(entry, name).real
    return row
