"""One evaluation as a whole: the table, what it is of, and why each class has its AP."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.evaluation.ap import ApTable
from focalcli.evaluation.diagnosis import Diagnosis
from focalcli.evaluation.gates import Gate
from focalcli.evaluation.suspects import Suspect


@dataclass(frozen=True)
class Evaluation:
    """An AP table, and what it is of.

    Attributes:
        source: the detections or the checkpoint. dataset: what they were scored against.
        found: the detections that were scored. of_checkpoint: a detector ran for them; False when they came from a
            file.
        diagnosis: why each class has its AP, where that was wanted.
        suspects: the labels that the detections dispute most, where that was wanted.
        gates: verdicts on the limits that were set. warnings: what makes the numbers differ from what the user may
            expect.
    """

    table: ApTable
    source: Path
    dataset: Dataset
    found: Detections
    of_checkpoint: bool
    diagnosis: Diagnosis | None = None
    gates: tuple[Gate, ...] = ()
    warnings: tuple[str, ...] = ()
    suspects: tuple[Suspect, ...] | None = None

    def ordered(self, column: str | None) -> Evaluation:
        """The same with the classes in another order: see ApTable.ordered."""
        return replace(self, table=self.table.ordered(column))

    def with_objects(self, least: int) -> Evaluation:
        """The same without the classes that have fewer than `least` objects; means and totals stay those of all.

        Raises:
            FocalError: no class is left.
        """
        classes = tuple(entry for entry in self.table.classes if entry.n_val >= least)
        if not classes:
            most = max(entry.n_val for entry in self.table.classes)
            raise FocalError(
                f"{self.dataset.path}: no class has {least:,} objects; the most is {most:,}", "lower --min-val"
            )
        return replace(self, table=replace(self.table, classes=classes))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the table, what it was computed from, the gates, and the diagnosis where there is one."""
        of = {"source": str(self.source), "dataset": str(self.dataset.path), "dataset_sha256": self.dataset.sha256}
        why = {} if self.diagnosis is None else {"diagnosis": self.diagnosis.to_dict()}
        disputed = {} if self.suspects is None else {"suspects": [suspect.to_dict() for suspect in self.suspects]}
        return {**self.table.to_dict(), **of, "gates": [asdict(gate) for gate in self.gates], **why, **disputed}
