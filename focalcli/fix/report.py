"""What a repair says: every change, and what is left with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from focalcli.audit import RULES, Finding
from focalcli.coco import Id
from focalcli.fix.document import Kind


@dataclass(frozen=True)
class Change:
    """What was done to one record.

    Attributes:
        kind: the list that it is in. id, image_id: as in the file before; None where it has none, and image_id only of
            annotations. text: the change, or what was wrong with a record that was taken out.
    """

    code: str
    kind: Kind
    id: Id | None
    image_id: Id | None
    text: str


@dataclass(frozen=True)
class Changes:
    """All that was done about one rule in one of the three lists."""

    code: str
    title: str
    does: str
    kind: Kind
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Remaining:
    """A finding that is still there.

    Attributes:
        reason: why it was left, where it could have been repaired; the finding's hint is the next step.
    """

    finding: Finding
    reason: str | None


@dataclass(frozen=True)
class FixReport:
    """A repaired copy.

    Attributes:
        output: None when nothing was written. image_root: where the pictures are.
        before, after: records of each list. nulls: NaN and Infinity that were written as null.
        joins: `output` lies where a look for the splits of the dataset finds it beside `source`, as one more.
    """

    source: Path
    output: Path | None
    image_root: Path
    before: dict[Kind, int]
    after: dict[Kind, int]
    changes: tuple[Changes, ...]
    remaining: tuple[Remaining, ...]
    nulls: int
    joins: bool

    @property
    def n_changes(self) -> int:
        return sum(len(group.changes) for group in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; every change is listed."""
        return {
            "schema_version": 1,
            "kind": "fix",
            "source": str(self.source),
            "output": None if self.output is None else str(self.output),
            "before": self.before,
            "after": self.after,
            "nulls": self.nulls,
            "changes": [
                {
                    "code": group.code,
                    "title": group.title,
                    "does": group.does,
                    "kind": group.kind,
                    "count": len(group.changes),
                    "records": [{"id": c.id, "image_id": c.image_id, "text": c.text} for c in group.changes],
                }
                for group in self.changes
            ],
            "remaining": [asdict(entry.finding) | {"reason": entry.reason} for entry in self.remaining],
        }


def grouped(changes: Sequence[Change], does: dict[str, str]) -> tuple[Changes, ...]:
    """The changes by rule and list, codes ascending."""
    ordered = sorted(changes, key=lambda change: (change.code, change.kind))  # stable: the file's order within
    return tuple(
        Changes(code, RULES[code].name, does[code], kind, tuple(group))
        for (code, kind), group in groupby(ordered, key=lambda change: (change.code, change.kind))
    )
