"""Several detectors, each against the first one: what `focal compare` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focalcli.evaluation.compare import METRICS, Comparison


@dataclass(frozen=True)
class Versus:
    """One detector against the first."""

    before: Path
    after: Path
    comparison: Comparison


@dataclass(frozen=True)
class Comparisons:
    """Each other detector against the first one.

    Attributes:
        dataset: what all were scored on; None where no file says so. n_train: objects of each class in training, as
            the last detector that says so counts them.
    """

    versus: tuple[Versus, ...]
    dataset: str | None
    n_train: Mapping[str, int | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema_version": 1,
            "kind": "comparison",
            "dataset": self.dataset,
            "n_train": dict(self.n_train),
            "comparisons": [
                {"before": str(one.before), "after": str(one.after), **one.comparison.to_dict()} for one in self.versus
            ],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat dict for each class of each pair, for CSV."""
        rows = []
        for one in self.versus:
            for entry in one.comparison.classes:
                row: dict[str, Any] = {"before": str(one.before), "after": str(one.after), "class": entry.name}
                row |= {"n_train": self.n_train.get(entry.name), "n_val": entry.n_val}
                for name in METRICS:
                    of = entry.of(name)
                    low, high = of.interval or (None, None)
                    row |= {f"{name}_before": of.before, f"{name}_after": of.after, f"{name}_difference": of.difference}
                    row |= {f"{name}_low": low, f"{name}_high": high, f"{name}_p": of.p_value}
                    row |= {f"{name}_adjusted": of.adjusted, f"{name}_real": of.real}
                rows.append(row)
        return rows
