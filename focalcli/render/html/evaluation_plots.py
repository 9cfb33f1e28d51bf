"""Plots of an evaluation: curves, costs of errors, calibration, frequency against AP, confusion.

Each is a Figure in drawing's stand-in colours with a title in words, or None where there is nothing to draw; the page
makes SVG of it, render/plots.py PNG. Of many classes only some are shown; a title says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from focalcli.evaluation import TYPES, ApTable, Calibration, ClassAp, ClassCalibration, Confusion, Diagnosis
from focalcli.evaluation.calibration import FEWEST_DETECTIONS
from focalcli.render.diagnosis import TITLES
from focalcli.render.html import drawing
from focalcli.render.html.wording import brief, label, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_CLASSES = 8
MOST_ROWS = 24  # of classes in the plot of errors
MOST_CURVES, MOST_GREY = 5, 60  # in colour; behind them
MOST_PANELS = 6
MOST_NAMED = 12  # in the plot of frequency against AP
MOST_CONFUSED = 14
BAR = 0.48  # of a column of the plot of errors, for the longest: its number stands behind it
_DASHES = ("-", (0, (7, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1.5)))  # where colours cannot be told apart


@dataclass(frozen=True)
class Plot:
    """A figure, made inside drawing.styled(), and what a screen reader says of it."""

    figure: Figure
    title: str


def evaluation_plots(table: ApTable, diagnosis: Diagnosis) -> dict[str, Plot | None]:
    """Name -> plot. The caller is inside drawing.styled() until it has saved them."""
    return {
        "precision-recall": pr_curves(table, diagnosis),
        "errors": error_costs(table, diagnosis),
        "reliability": reliability(diagnosis.calibration) if diagnosis.calibration else None,
        "frequency": frequency(table),
        "confusion": confusion_map(diagnosis.confusion),
    }


def weakest_first(classes: Sequence[ClassAp]) -> list[ClassAp]:
    """The classes with objects by AP50, the lowest first; of many classes those with few objects come last.

    Among hundreds of classes some with two objects have AP 0, and their curves would say nothing.
    """
    rows = [row for row in classes if row.AP50 is not None]
    many = len(rows) > MANY_CLASSES
    return sorted(rows, key=lambda row: (many and row.has_few_objects, row.AP50, -row.n_val))


def pr_curves(table: ApTable, diagnosis: Diagnosis) -> Plot | None:
    """Precision along recall at IoU 0.5, the weakest classes in colour, each with its operating point."""
    curves = {curve.category_id: curve for curve in diagnosis.curves}
    rows = [row for row in weakest_first(table.classes) if row.category_id in curves]
    if not rows:
        return None
    named, grey = rows[:MOST_CURVES], rows[MOST_CURVES : MOST_CURVES + MOST_GREY]
    legend = 8 + 18 * len(named)
    fig = drawing.figure(300 + legend)
    axes = drawing.axes(fig, left=50, right=14, top=8, bottom=42 + legend)
    for row in grey:
        curve = curves[row.category_id]
        axes.plot(curve.recall, curve.precision, color=drawing.MUTED, linewidth=0.7, alpha=0.5)
    for row, colour, dashes in zip(named, drawing.SERIES, _DASHES, strict=False):
        curve = curves[row.category_id]
        name = f"{label(row.name)}, AP50 {percent(row.AP50)}"
        axes.plot(curve.recall, curve.precision, color=colour, linewidth=1.8, linestyle=dashes, label=name)
        if row.recall is not None:
            axes.plot([row.recall], [row.precision], "o", color=colour, markersize=7, clip_on=False)
    _unit_square(axes)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(0, -48 / 250), borderaxespad=0, handlelength=3.4)
    words = "; ".join(f"{label(row.name)} AP50 {percent(row.AP50)}" for row in named)
    rest = f"; in grey {len(grey)} other classes" if grey else ""
    return Plot(fig, f"Precision along recall of {words}{rest}")


def error_costs(table: ApTable, diagnosis: Diagnosis) -> Plot | None:
    """AP50 that each kind of error costs each class: a column of bars for each kind, all on one scale."""
    gains = {row.category_id: row.gains for row in diagnosis.errors.classes}
    rows = weakest_first(table.classes)[:MOST_ROWS]
    if not rows:
        return None
    names = [label(row.name, 16) for row in rows]
    values = np.array([[max(0.0, gains[row.category_id][kind] or 0.0) for kind in TYPES] for row in rows])
    fig = drawing.figure(24 + drawing.rows_px(len(rows)) + 24)
    axes = drawing.axes(fig, left=min(150, drawing.label_space(names)), right=6, top=24, bottom=24)
    most = max(float(values.max()), 0.001)
    places = np.arange(len(rows))
    for column in range(len(TYPES)):
        axes.barh(places, BAR * values[:, column] / most, left=column, height=0.62, color=drawing.BLUE, linewidth=0)
        axes.axvline(column, color=drawing.RULE, linewidth=0.8)
        for place, value in zip(places, values[:, column], strict=True):
            if value >= 0.0005:
                text = f"{100 * value:.1f}"
                axes.annotate(
                    text,
                    (column + BAR * value / most, place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    size=10,
                )
    axes.set_xlim(0, len(TYPES))
    axes.set_xticks(np.arange(len(TYPES)) + 0.02, [TITLES[kind][0] for kind in TYPES], ha="left")
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("points of AP50 that each kind of error costs")
    drawing.class_axis(axes, names)
    dearest = max(TYPES, key=lambda kind: diagnosis.errors.gains[kind] or 0.0)
    return Plot(fig, f"AP50 that each kind of error costs each class; over all classes {dearest} errors cost the most")


def reliability(calibration: Calibration) -> Plot | None:
    """Share of right detections in bins of score, of all and of the classes with the most detections."""
    classes = sorted(calibration.classes, key=lambda entry: -entry.detections)[: MOST_PANELS - 1]
    panels = [entry for entry in (calibration.overall, *classes) if entry.detections >= FEWEST_DETECTIONS]
    if not panels:
        return None
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    left, gap, bottom, top = 44, 18, 40, 34
    side = min(200.0, (drawing.WIDTH - left - 10 - (columns - 1) * gap) / columns)
    height = lines * (side + top) + bottom
    fig = drawing.figure(height)
    for number, entry in enumerate(panels):
        line, column = divmod(number, columns)
        x = left + column * (side + gap)
        y = top + line * (side + top)
        axes = drawing.axes(fig, left=x, right=drawing.WIDTH - x - side, top=y, bottom=height - y - side)
        _reliability_panel(axes, entry)
        if column:
            axes.set_yticklabels([])
        if number + columns < len(panels):
            axes.set_xticklabels([])
        elif column == 0:
            axes.set_xlabel("score")
        if column == 0:
            axes.set_ylabel("share that is right")
    words = "; ".join(f"{label(entry.name)} {label(entry.verdict, 80)}" for entry in panels)
    return Plot(fig, f"Share of right detections by score. {words}")


def _reliability_panel(axes: Axes, entry: ClassCalibration) -> None:
    bins = [one for one in entry.bins if one.detections]
    x = [one.mean_score for one in bins]
    y = [one.precision for one in bins]
    axes.plot([0, 1], [0, 1], color=drawing.MUTED, linewidth=1, dashes=(3, 3))
    for score, right in zip(x, y, strict=True):
        axes.plot([score, score], [score, right], color=drawing.ORANGE if right < score else drawing.BLUE, linewidth=5)
    axes.plot(x, y, "o-", color=drawing.INK, linewidth=1, markersize=3.5)
    _unit_square(axes)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.annotate(
        label(entry.name, 16), (0, 1), (0, 17), xycoords="axes fraction", textcoords="offset points", weight="bold"
    )
    axes.annotate(
        f"ECE {percent(entry.ECE)}, {brief(entry.detections)} detections", (0, 1), (0, 5), xycoords="axes fraction",
        textcoords="offset points", size=9.5, color=drawing.MUTED,
    )  # fmt: skip


def frequency(table: ApTable) -> Plot | None:
    """AP50 of each class against its objects in training, with its interval, coloured by frequency group."""
    rows = [row for row in table.classes if row.AP50 is not None and row.n_train]
    if len(rows) < 2:
        return None
    fig = drawing.figure(300)
    axes = drawing.axes(fig, left=50, right=14, top=28, bottom=42)
    for group, colour in (*drawing.GROUP_COLOURS.items(), (None, drawing.MUTED)):
        members = [row for row in rows if row.group == group]
        if not members:
            continue
        x, y = [row.n_train for row in members], [100 * row.AP50 for row in members]
        size, alpha = (46, 1.0) if len(rows) <= 60 else (12, 0.7)
        marker = {"rare": "^", "common": "s"}.get(group or "", "o")
        axes.scatter(x, y, s=size, color=colour, marker=marker, alpha=alpha, linewidths=0, label=group or "unknown")
        for row in members if len(rows) <= 60 else ():
            if row.AP50_low is not None and row.AP50_high is not None:
                axes.plot([row.n_train] * 2, [100 * row.AP50_low, 100 * row.AP50_high], color=colour, linewidth=1.4)
    most = max(row.n_train for row in rows)
    for row in rows if len(rows) <= MOST_NAMED else ():
        right = row.n_train**2 > most * min(other.n_train for other in rows)  # in the right half: its name to the left
        axes.annotate(
            label(row.name), (row.n_train, 100 * row.AP50), (-8 if right else 8, 0), textcoords="offset points",
            ha="right" if right else "left", va="center", size=11,
        )  # fmt: skip
    axes.set_xscale("log")
    low, high = min(row.n_train for row in rows), most
    axes.set_xlim(low / 1.6, high * 1.6)
    _log_ticks(axes, low / 1.6, high * 1.6)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("objects in training, log scale")
    axes.set_ylabel("AP50, x100")
    axes.grid()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, borderpad=0.2, handletextpad=0.2)
    slope = float(np.corrcoef(np.log([row.n_train for row in rows]), [row.AP50 for row in rows])[0, 1])
    words = f"; correlation {slope:.2f}" if len(rows) > 5 and np.isfinite(slope) else ""
    return Plot(fig, f"AP50 of {len(rows)} classes against their objects in training{words}")


def _log_ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks at powers of ten, or at 1, 2 and 5 of each where there would be fewer than three."""
    from matplotlib.ticker import FixedLocator, NullLocator

    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**power for power in range(8) for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) > 2:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: brief(value))


def confused_most(confusion: Confusion, most: int = MOST_CONFUSED) -> list[int]:
    """The classes to show of a confusion matrix, in its order: all, or those that are mixed up with others most."""
    classes = len(confusion.names) - 1
    if classes <= most:
        return list(range(classes))
    matrix = np.array(confusion.matrix)[:classes, :classes]
    off = matrix - np.diag(np.diag(matrix))
    mixed = off.sum(axis=0) + off.sum(axis=1)
    # where few are mixed up, those with the most objects and detections fill the rest
    order = np.lexsort((-(matrix.sum(axis=0) + matrix.sum(axis=1)), -mixed))
    return sorted(order[:most].tolist())


def confusion_map(confusion: Confusion) -> Plot | None:
    """What objects of each class are called; the stronger the colour, the larger its share of the row."""
    chosen = confused_most(confusion)
    if not chosen:
        return None
    places = [*chosen, len(confusion.names) - 1]
    matrix = np.array(confusion.matrix)[np.ix_(places, places)]
    whole = np.array(confusion.matrix).sum(axis=1)[places]
    names = [label(confusion.names[place], 16) for place in places]
    n = len(places)
    cell = min(60.0, (drawing.WIDTH - 150) / n)
    left, top = drawing.WIDTH - n * cell - 10, 12 + 7.2 * max(map(len, names))
    fig = drawing.figure(top + n * cell * 0.7 + 22)
    axes = drawing.axes(fig, left=left, right=10, top=top, bottom=22)
    shares = matrix / np.maximum(whole[:, None], 1)
    rgba = np.empty((n, n, 4))
    rgba[..., :3] = drawing.HEAT_RGB
    rgba[..., 3] = np.where(shares > 0, 0.05 + 0.6 * shares, 0)
    axes.imshow(rgba, aspect="auto", interpolation="none")
    size = 11 if n <= 8 else 8
    for row in range(n):
        for column in range(n):
            if matrix[row, column]:
                axes.annotate(brief(int(matrix[row, column])), (column, row), ha="center", va="center", size=size)
    axes.set_yticks(range(n), names)
    axes.set_xticks(range(n), names, rotation=90)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("rows: what it is; columns: what it was called", labelpad=6)
    return Plot(fig, f"Confusion of {len(chosen)} classes and the background")


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
