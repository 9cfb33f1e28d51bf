"""What a loss does to a dataset, as tables for the terminal and the page: measured scores, weights, the first loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from focalcli.recommend.explained import Explained
from focalcli.recommend.measured import ALPHAS, GAMMAS, Measured
from focalcli.render.console import Column, print_line, print_table
from focalcli.render.text import percent, plural

MOST_ROWS, LAST_ROWS = 24, 8  # of a table of classes; json has all


@dataclass(frozen=True)
class TextTable:
    """A table with its words."""

    title: str
    columns: tuple[Column, ...]
    note: str = ""


def print_tables(console: Any, tables: Sequence[TextTable]) -> None:
    """Each under its title, with an empty line before it."""
    for table in tables:
        console.print()
        print_line(console, (table.title, "bold"))
        print_table(console, table.columns, table.note)


def shown(rows: Sequence[Any]) -> tuple[list[Any], str]:
    """Of many rows the first and the last, and a note on those between."""
    if len(rows) <= MOST_ROWS:
        return list(rows), ""
    return [*rows[: MOST_ROWS - LAST_ROWS], *rows[-LAST_ROWS:]], f"{len(rows) - MOST_ROWS:,} classes between not shown"


def measured_tables(measured: Measured, alpha: float, gamma: float) -> list[TextTable]:
    """The scores of each class and what carries the loss under one pair, and the shares of every pair of the grid."""
    classes = sorted(measured.classes(alpha, gamma), key=lambda entry: -entry.positives)
    rows, note = shown(classes)
    of = f"{plural(measured.images, 'picture')} of {measured.dataset}"
    note = "; ".join(
        filter(
            None,
            (
                "hard negative: 1 in 1000 scores higher; negatives: of the class's loss; balanced: both pull alike",
                note,
            ),
        )
    )
    by_class = TextTable(
        f"Scores of {measured.checkpoint} on {of}, weighed with alpha {alpha:.3g}, gamma {gamma:.3g}",
        (
            Column("class", [row.name for row in rows], left=True, style="bold"),
            Column("positives", [f"{row.positives:,}" for row in rows]),
            Column("median p", [_score(row.positive_score) for row in rows]),
            Column("hard negative p", [_score(row.hard_negative_score) for row in rows]),
            Column("negatives %", [percent(row.negatives_loss) for row in rows]),
            Column("of all loss %", [percent(row.loss) for row in rows], rank=1),
            Column("balanced alpha", [_score(row.balanced_alpha) for row in rows]),
        ),
        note,
    )
    grid = {(entry.alpha, entry.gamma): entry for entry in measured.grid()}
    middle = [grid[0.5, g] for g in GAMMAS]
    shares = TextTable(
        "What any alpha and gamma would do with these scores",
        (
            Column("gamma", [f"{g:g}" for g in GAMMAS], style="bold"),
            *(
                Column(f"alpha {a:g}", [percent(grid[a, g].negatives_gradient, 0) for g in GAMMAS], rank=a != 0.5)
                for a in ALPHAS
            ),
            Column("hardest 1 %: loss", [percent(entry.hardest_negatives_loss, 0) for entry in middle]),
            Column("gradient", [percent(entry.hardest_negatives_gradient, 0) for entry in middle]),
            Column("rare third", [percent(entry.rare_loss) for entry in middle]),
        ),
        "in %; under alpha: the negatives' share of the gradient; hardest 1 % of the negatives: their share of the "
        "negatives' loss and gradient; rare third of the classes: share of all loss at alpha 0.5",
    )
    return [by_class, shares]


def explained_tables(explained: Explained) -> list[TextTable]:
    """Weights by p_t, the first loss of each class, and the scores now where they are known."""
    typical = explained.typical
    alike = len({(entry.alpha, entry.gamma) for entry in explained.classes}) == 1
    of = "" if alike else f" (of {explained.weights_of}; classes differ)"
    entries = explained.weights
    top = max(max(entry.positive, entry.negative) for entry in entries)
    weights = TextTable(
        f"alpha {typical.alpha:g}, gamma {typical.gamma:g}{of}: what an anchor costs, by the probability p_t that it "
        "gives to the truth",
        (
            Column("p_t", [f"{entry.p_t:g}" for entry in entries], style="bold"),
            Column("cross-entropy", [f"{entry.cross_entropy:.4f}" for entry in entries]),
            Column("x (1 - p_t)^gamma", [f"{entry.factor:.2g}" for entry in entries]),
            Column("positive costs", [f"{entry.positive:.2g}" for entry in entries]),
            Column("negative costs", [f"{entry.negative:.2g}" for entry in entries]),
            Column("", [_bar(entry.positive / top) for entry in entries], left=True, style="cyan", rank=1),
        ),
        "in nats; a bar, where there is room, is the positive's",
    )
    rows, note = shown(sorted(explained.classes, key=lambda entry: -entry.objects))
    first = TextTable(
        f"Before the first step, on {explained.dataset}: negatives carry {percent(explained.negatives)} % of the loss",
        (
            Column("class", [row.name for row in rows], left=True, style="bold"),
            Column("objects", [f"{row.objects:,}" for row in rows]),
            Column("alpha", [f"{row.alpha:.3g}" for row in rows]),
            Column("gamma", [f"{row.gamma:.3g}" for row in rows]),
            Column("1 positive for", [f"{1 / row.foreground:,.0f}" for row in rows], rank=2),
            Column("prior", [f"{row.prior:.2g}" for row in rows]),
            Column("rests at", [f"{row.rest:.2g}" for row in rows]),
            Column("negatives %", [percent(row.negatives) for row in rows]),
            Column("of all loss %", [percent(row.share) for row in rows], rank=1),
        ),
        "; ".join(
            filter(
                None,
                ("negatives: of the class's first loss; rests at: the score where the pulls on its bias cancel", note),
            )
        ),
    )
    now = [] if explained.now is None else measured_tables(explained.now, typical.alpha, typical.gamma)
    return [weights, first, *now]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _bar(share: float) -> str:
    return "#" * round(20 * share)
