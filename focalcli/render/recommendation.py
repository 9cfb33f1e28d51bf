"""A recommendation as text for people, or as rows: each value, its reason, and how sure it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from focalcli.recommend import Advice, Recommendation
from focalcli.recommend.loss import of_each
from focalcli.render.console import Column, print_line
from focalcli.render.loss_tables import TextTable, measured_tables, print_tables, shown

MEASURED = "Measured (docs/recommend.md)"


def print_recommendation(result: Recommendation, console: Any) -> None:
    """The values with their reasons, how the anchors serve each class, a checkpoint's scores, and the experiments."""
    print_line(console, (f"For {result.dataset}", "bold"))
    console.print()
    widest = max(len(entry.key) for entry in result.advice)
    evidence = experiments(result)
    for entry in result.advice:
        print_line(console, (f"{entry.key:{widest}}  ", "bold"), (short(entry.value), "cyan"))
        print_line(console, entry.reason, indent=4)
        print_line(console, (how_sure(entry, evidence), "dim"), indent=4)
    tables = [table_of_classes(result)]
    if result.measured is not None:
        tables += measured_tables(result.measured, *pair(result))
    print_tables(console, tables)
    if evidence:
        console.print()
        print_line(console, (MEASURED, "bold"))
    for number, text in enumerate(evidence, start=1):
        print_line(console, (f"[{number}] {text}", "dim"), indent=4)


def experiments(result: Recommendation) -> list[str]:
    """What the values rest on, each experiment once, in the order of the values."""
    return list(dict.fromkeys(text for entry in result.advice for text in entry.evidence))


def how_sure(entry: Advice, evidence: Sequence[str]) -> str:
    """The confidence, the numbers of its experiments among `evidence`, and the source."""
    numbers = [f"[{evidence.index(text) + 1}]" for text in entry.evidence]
    return "; ".join(filter(None, (" ".join([entry.confidence, *numbers]), entry.source)))


def pair(result: Recommendation) -> tuple[float, float]:
    """Its alpha and gamma; the mean where they are set by class."""
    alpha, gamma = (of_each(result.classes, result.values[key]) for key in ("loss.alpha", "loss.gamma"))
    return sum(alpha) / len(alpha), sum(gamma) / len(gamma)


def table_of_classes(result: Recommendation) -> TextTable:
    """How the recommended anchors serve each class, the most frequent first."""
    alpha = result.values["loss.alpha"]
    fits, note = shown(sorted(result.classes, key=lambda fit: -fit.objects))
    return TextTable(
        "With the recommended anchors",
        (
            Column("class", [fit.name for fit in fits], left=True, style="bold"),
            Column("objects", [f"{fit.objects:,}" for fit in fits]),
            *([Column("alpha", [f"{value:g}" for value in of_each(fits, alpha)])] if isinstance(alpha, dict) else []),
            Column("positives per box", [f"{fit.positives_per_box:g}" for fit in fits]),
            Column("reached %", [f"{100 * fit.reached:.1f}" for fit in fits]),
            Column("1 positive anchor for", [_others(fit.foreground) for fit in fits]),
            Column("prior", [f"{fit.prior:g}" for fit in fits]),
        ),
        "; ".join(filter(None, ("reached: boxes with an anchor of IoU >= 0.5", note))),
    )


def rows(result: Recommendation) -> list[dict[str, Any]]:
    """One flat record for each recommended value, for CSV; what is no number or word is written as JSON."""
    return [
        {
            "key": entry.key,
            "value": json.dumps(entry.value) if isinstance(entry.value, (dict, list, tuple)) else entry.value,
            "reason": entry.reason,
            "confidence": entry.confidence,
            "evidence": "; ".join(entry.evidence),
            "source": entry.source,
        }
        for entry in result.advice
    ]


def print_next_step(console: Any, output: Path | None, *, train: Path, val: Path | None, replaced: bool) -> None:
    """What was written, on which files, and what to run next."""
    if console.is_terminal:
        console.print()
    if output is None:
        print_line(console, "next: the same with -o recipe.yaml writes it as a recipe for focal train")
        return
    same = ", the training set itself" if val is not None and val.samefile(train) else ""
    print_line(console, f"{'replaced' if replaced else 'wrote'} {output}; it will be scored on {val}{same}")
    print_line(console, f"next: focal train {shlex.quote(str(output))}")


def _others(foreground: float) -> str:
    return f"{1 / foreground:,.0f} others" if foreground else "none"


def short(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return "no"
    if isinstance(value, dict):
        shown = ", ".join(f"{name} {number:g}" for name, number in list(value.items())[:6])
        return shown + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
