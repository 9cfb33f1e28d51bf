"""A study as one HTML page: the verdict, where the search looked, the repeats, the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from focalcli.render.html import drawing, page
from focalcli.render.html.wording import label
from focalcli.render.tuning import verdict_lines

if TYPE_CHECKING:
    from focalcli.work.tuning import Outcome, Run

SHOWN_ROWS = 40


def tuning_page(outcome: Outcome, name: str) -> str:
    """The study of the recipe `name` as a self-contained page."""
    search = [run for run in outcome.runs if not run.repeat and run.score is not None]
    repeats = [run for run in outcome.runs if run.repeat and run.state == "complete"]
    return page.render(
        "tuning.html.jinja",
        name=name,
        today=date.today().isoformat(),
        outcome=outcome,
        lines=verdict_lines(outcome),
        plots={"places": places(search, outcome.metric), "repeats": strips(repeats, outcome.metric)},
        shown_rows=SHOWN_ROWS,
        searched=len(search),
        repeated=len(repeats),
        minutes=sum(run.seconds for run in outcome.runs) / 60,
    )


@drawing.styled()
def places(runs: Sequence[Run], metric: str) -> str | None:
    """Score over gamma, a dot for each run of the search and a line for the recipe's own; the colour says alpha."""
    known = [run for run in runs if run.point is not None]
    if not known:
        return None
    fig = drawing.figure(300)
    axes = drawing.axes(fig, left=52, right=14, top=26, bottom=40)
    bands = (
        ("alpha under 0.4", drawing.BLUE, 0.0),
        ("0.4 to 0.6", drawing.GREEN, 0.4),
        ("over 0.6", drawing.ORANGE, 0.601),
    )
    for number, (words, colour, low) in enumerate(bands):
        high = bands[number + 1][2] if number + 1 < len(bands) else 1.0
        own = [run for run in known if low <= run.point.alpha < high]
        for whole in (True, False):
            these = [run for run in own if (run.state == "complete") == whole]
            axes.plot(
                [run.point.gamma for run in these], [100 * run.score for run in these], linestyle="", marker="o",
                markersize=7, color=colour, markerfacecolor=colour if whole else "none", label=words if whole else None,
            )  # fmt: skip
    for run in runs:
        if run.point is None:
            axes.axhline(100 * run.score, color=drawing.INK, linewidth=1, linestyle="--", label="recipe")
    axes.set_xlabel("gamma; hollow: cut short, scored by then")
    axes.set_ylabel(f"{label(metric)} x100")
    axes.margins(y=0.08)
    axes.grid(axis="y")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        columnspacing=1.0,
        handlelength=1.5,
        borderaxespad=0,
        handletextpad=0.2,
    )
    return drawing.svg(fig, "places", f"{metric} of {len(known)} runs over gamma")


@drawing.styled()
def strips(runs: Sequence[Run], metric: str) -> str | None:
    """The repeats: a row for each arm, a dot for each seed, a line at the mean."""
    names = list(dict.fromkeys(run.name for run in runs))
    if not names:
        return None
    scores = [[100 * run.score for run in runs if run.name == name and run.score is not None] for name in names]
    order = np.argsort([-np.mean(each) for each in scores])
    names, scores = [label(names[i]) for i in order], [scores[i] for i in order]
    fig = drawing.figure(52 + 34 * len(names))
    axes = drawing.axes(fig, left=drawing.label_space(names), right=20, top=8)
    for place, each in enumerate(scores):
        axes.plot(each, [place] * len(each), linestyle="", marker="o", markersize=7, color=drawing.BLUE, alpha=0.7)
        axes.plot([np.mean(each)] * 2, [place - 0.3, place + 0.3], color=drawing.INK, linewidth=2)
    axes.set_xlabel(f"{label(metric)} x100; a dot for each seed, a line at the mean")
    drawing.class_axis(axes, names)
    axes.grid(axis="x")
    return drawing.svg(fig, "repeats", f"{metric} of the repeats of {len(names)} arms")
