"""Recommendation or Explained -> one HTML page with its tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from focalcli.recommend import Recommendation
from focalcli.recommend.explained import Explained
from focalcli.recommend.measured import Measured
from focalcli.render.html import drawing, page
from focalcli.render.html.audit import dataset_name
from focalcli.render.html.loss_plots import loss_plots
from focalcli.render.loss_tables import TextTable, explained_tables, measured_tables
from focalcli.render.recommendation import MEASURED, experiments, how_sure, pair, short, table_of_classes

NOTES = {
    "loss": ("Cost by p_t", "As figure 1 of Lin et al. 2017."),
    "gradient": ("Gradient by logit", "As their figure 6: what pushes a score."),
    "scores": ("Scores now", "Over all classes; ignored anchors left out."),
    "cumulative-positives": ("Loss of the positives, accumulated", "As their figure 4, for this model and data."),
    "cumulative-negatives": (
        "Loss of the negatives, accumulated",
        "As their figure 4, from the hardest on: how few carry the loss.",
    ),
}


def recommendation_page(result: Recommendation) -> str:
    """The recommendation as a self-contained page."""
    alpha, gamma = pair(result)
    tables = [table_of_classes(result)]
    if result.measured is not None:
        tables += measured_tables(result.measured, alpha, gamma)
    evidence = experiments(result)
    advice = [(entry.key, short(entry.value), entry.reason, how_sure(entry, evidence)) for entry in result.advice]
    name, of = dataset_name([Path(result.dataset)]), f"for {result.dataset}"
    return _page("Recommendation", name, of, advice, evidence, tables, alpha, gamma, result.measured)


def explained_page(explained: Explained) -> str:
    """What a loss does, as a self-contained page."""
    typical = explained.typical
    tables = explained_tables(explained)
    return _page(
        "Loss", explained.source, f"on {explained.dataset}", [], [], tables, typical.alpha, typical.gamma, explained.now
    )


def _page(
    kind: str,
    heading: str,
    sub: str,
    advice: Sequence[tuple[str, ...]],
    evidence: Sequence[str],
    tables: Sequence[TextTable],
    alpha: float,
    gamma: float,
    measured: Measured | None,
) -> str:
    with drawing.styled():
        plots = [
            (*NOTES[name], drawing.svg(plot.figure, name, plot.title))
            for name, plot in loss_plots(alpha, gamma, measured).items()
        ]
    return page.render(
        "loss.html.jinja",
        kind=kind,
        heading=heading,
        sub=sub,
        today=f"{date.today():%d %B %Y}".lstrip("0"),
        advice=advice,
        evidence=evidence,
        measured_title=MEASURED,
        tables=[(table, list(zip(*(column.cells for column in table.columns), strict=True))) for table in tables],
        plots=plots,
        alpha=alpha,
        gamma=gamma,
    )
