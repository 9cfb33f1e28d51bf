"""How a check says what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from focalcli.audit.report import PLACES, Finding, Severity
from focalcli.audit.rules import RULES
from focalcli.coco import Id


def make(
    code: str,
    split: str,
    message: str,
    *,
    count: int,
    image_ids: Sequence[Id] = (),
    annotation_ids: Sequence[Id] = (),
    severity: Severity | None = None,
    hint: str | None = None,
) -> Finding:
    """A finding with its rule's severity and hint, unless this case has its own."""
    rule = RULES[code]
    return Finding(
        code=code,
        severity=severity or rule.severity,
        title=rule.name,
        message=message,
        split=split,
        image_ids=tuple(map(_plain, image_ids[:PLACES])),
        annotation_ids=tuple(map(_plain, annotation_ids[:PLACES])),
        count=count,
        unit=rule.unit,
        hint=hint or rule.fix,
    )


def _plain(value: Any) -> Id:
    """An id as Python's own int or str: numpy's scalars cannot be written as JSON."""
    return value.item() if isinstance(value, np.generic) else value


def few(words: Sequence[str], limit: int = 4) -> str:
    """The first few, and how many more."""
    more = f" and {len(words) - limit:,} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
