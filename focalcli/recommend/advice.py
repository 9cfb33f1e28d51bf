"""What a recommendation is: values for a recipe, each with its reason, figures, source and confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from focalcli.recommend.measured import Measured

YOURS = "your choice"


@dataclass(frozen=True)
class Advice:
    """One recommended value: what, why, on which figures, from where, and how sure.

    Attributes:
        confidence: in a word or a few. evidence: the experiments that it rests on, if any.
    """

    key: str
    value: Any
    reason: str
    figures: Mapping[str, Any]
    source: str
    confidence: str
    evidence: tuple[str, ...] = ()

    def chosen(self, value: Any, reason: str = "") -> Advice:
        """The same for a value that is the user's: no rule and no experiment stands behind it."""
        said = "; ".join(filter(None, ("as asked", reason)))
        return replace(self, value=value, reason=said, source="", confidence=YOURS, evidence=())


@dataclass(frozen=True)
class ClassFit:
    """How the recommended anchors serve one class.

    Attributes:
        foreground: positives of the class over all other anchors. positives_per_box: their median.
        reached: share of its boxes with IoU >= 0.5 to an anchor. prior: the score at which its bias rests.
    """

    name: str
    objects: int
    foreground: float
    positives_per_box: float
    reached: float
    prior: float


@dataclass(frozen=True)
class Recommendation:
    """Values for a recipe (`values`, by dotted key) with the advice behind those that the data decided.

    Attributes:
        measured: what a checkpoint's scores say, where one was given.
    """

    dataset: str
    advice: tuple[Advice, ...]
    classes: tuple[ClassFit, ...]
    values: Mapping[str, Any]
    measured: Measured | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; of the measured scores only what was concluded, not their histograms."""
        content = {
            "schema_version": 1,
            "kind": "recommendation",
            "dataset": self.dataset,
            "advice": [asdict(entry) for entry in self.advice],
            "classes": [asdict(fit) for fit in self.classes],
            "values": dict(self.values),
        }
        return content if self.measured is None else {**content, "measured": self.measured.to_dict()}

    def comments(self) -> dict[str, str]:
        """Dotted recipe key -> its reason, for the written recipe."""
        return {entry.key: entry.reason for entry in self.advice if entry.key in self.values}


def recipe_values(recommendation: Recommendation, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of a recipe: what recipe.from_dict takes."""
    nested: dict[str, Any] = {"name": name, "data": dict(data)}
    for key, value in recommendation.values.items():
        section, leaf = key.split(".")
        nested.setdefault(section, {})[leaf] = list(value) if isinstance(value, tuple) else value
    return nested
