"""Plots of the boxes: how large, of which shape, where, and how many in a picture.

Each is an <svg> string; None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from focalcli.anchors import LEVELS
from focalcli.audit import AuditReport, ClassRow, SplitReport
from focalcli.audit.figures import ASPECT_EDGES, HEAT_CELLS, MAX_DETECTIONS, SIDE_EDGES
from focalcli.render.html import drawing
from focalcli.render.html.class_plots import drawn
from focalcli.render.html.wording import brief, label, percent

MOST_BARS = 60  # of the histogram of objects per image
ASPECT_TICKS = ("", "1:8", "", "1:3", "1:2", "", "", "2:1", "3:1", "", "8:1", "")  # every edge would be crowded


def side_strips(report: AuditReport, train: SplitReport) -> str | None:
    """Sides of the boxes at network size, all and per class, with the anchors' sizes."""
    ticks = [str(edge) if edge.bit_count() == 1 else "" for edge in SIDE_EDGES]  # every other one, for room
    marks = [(_place(size, SIDE_EDGES), name) for name, size in zip(LEVELS, report.spec.sizes, strict=True)]
    rows = [row for row in drawn(train) if row.scale.sides]
    title = f"Sides of the boxes in px at network size; anchors of {', '.join(f'{s:g}' for s in report.spec.sizes)} px"
    return _strips(
        _total(row.scale.sides for row in train.classes),
        rows,
        [row.scale.sides for row in rows],
        ticks,
        marks,
        "side in px at network size",
        "sides",
        title,
    )


def aspect_strips(report: AuditReport, train: SplitReport) -> str | None:
    """Height to width of the boxes, all and per class, with the anchors' ratios."""
    marks = [(_place(ratio, ASPECT_EDGES), f"{ratio:g}") for ratio in report.spec.ratios]
    rows = [row for row in drawn(train) if row.scale.aspects]
    total = _total(row.scale.aspects for row in train.classes)
    title = f"Height to width of the boxes; anchors of {', '.join(f'{ratio:g}' for ratio in report.spec.ratios)}"
    return _strips(
        total, rows, [row.scale.aspects for row in rows], ASPECT_TICKS, marks, "height : width", "aspects", title
    )


def _total(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of the histograms; classes without boxes have none."""
    return [sum(bins) for bins in zip(*filter(None, histograms), strict=True)]


def _place(value: float, edges: Sequence[float]) -> float:
    """Where a value lies on an axis whose bins are all equally wide; between two edges by its logarithm."""
    bin = int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2))
    low, high = edges[bin], edges[bin + 1]
    if low <= 0 or bin == len(edges) - 2:
        return bin + 0.5
    return bin + math.log(value / low) / math.log(high / low)


@drawing.styled()
def _strips(
    total: Sequence[int],
    rows: Sequence[ClassRow],
    counts: Sequence[Sequence[int]],
    ticks: Sequence[str],
    marks: Sequence[tuple[float, str]],
    unit: str,
    name: str,
    title: str,
) -> str | None:
    """A histogram of all boxes above one strip for each class, on one axis. ticks: of the bins' edges."""
    filled = np.flatnonzero(total)
    if not len(filled):
        return None
    low, high = int(filled[0]), int(filled[-1]) + 1
    low, high = min([low, *(int(place) for place, _ in marks)]), max([high, *(int(place) + 1 for place, _ in marks)])
    names = [label(row.name) for row in rows]
    left, histogram_px, strips_px = max(58.0, drawing.label_space(names)), 130, drawing.rows_px(len(rows))
    fig = drawing.figure(24 + histogram_px + 10 + strips_px + 42)
    upper = drawing.axes(fig, left=left, top=24, bottom=10 + strips_px + 42)
    upper.bar(np.arange(low, high) + 0.5, total[low:high], width=0.92, color=drawing.BLUE, linewidth=0)
    upper.set_ylim(0, max(total) * 1.05)
    upper.yaxis.set_major_formatter(lambda value, _: brief(value))
    upper.yaxis.get_major_locator().set_params(nbins=4, integer=True)
    upper.tick_params(axis="y", labelcolor=drawing.MUTED)
    upper.set_xticks([])
    upper.set_ylabel("boxes")
    lower = drawing.axes(fig, left=left, top=24 + histogram_px + 10, bottom=42)
    shares = np.array(counts, dtype=float)
    shares /= np.maximum(shares.max(axis=1, keepdims=True), 1)
    extent = (0, shares.shape[1], len(rows) - 0.5, -0.5)
    lower.imshow(_heat(shares), aspect="auto", interpolation="none", extent=extent)
    drawing.class_axis(lower, names)
    lower.set_xticks(range(low, high + 1), [ticks[edge] for edge in range(low, high + 1)])
    lower.set_xlabel(unit)
    for axes in (upper, lower):
        axes.set_xlim(low, high)
        for place, _ in marks:
            axes.axvline(place, color=drawing.ORANGE, linewidth=1.2, dashes=(4, 2))
    for place, text in marks:
        upper.annotate(
            text, (place, 1), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", size=11, color=drawing.ORANGE,
        )  # fmt: skip
    return drawing.svg(fig, name, title)


@drawing.styled()
def heat_map(train: SplitReport) -> str | None:
    """Where the boxes lie in a picture stretched to a square."""
    heat = np.array(train.layout.heat, dtype=float)
    if not heat.any():
        return None
    fig = drawing.figure(324)
    axes = drawing.axes(fig, left=60, right=60, top=2, bottom=2)
    axes.imshow(_heat(heat / heat.max()), interpolation="none", extent=(0, HEAT_CELLS, HEAT_CELLS, 0), aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(True)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    words = f"most boxes cover a cell {percent((row + 0.5) / HEAT_CELLS, 0)} % down and "
    words += f"{percent((column + 0.5) / HEAT_CELLS, 0)} % across"
    return drawing.svg(fig, "heat", f"Heat map of the places that boxes cover: {words}")


@drawing.styled()
def objects_per_image(train: SplitReport) -> str | None:
    """How many pictures hold how many objects."""
    pairs = train.layout.objects_per_image
    most = max((objects for objects, images in pairs if images), default=0)
    width = max(1, -(-(most + 1) // MOST_BARS))
    bars = np.zeros(most // width + 1, dtype=np.int64)
    for objects, images in pairs:
        bars[objects // width] += images
    if not bars.any():
        return None
    fig = drawing.figure(324)
    axes = drawing.axes(fig, left=52, right=14, top=16, bottom=40)
    starts = np.arange(len(bars)) * width
    axes.bar(starts + (width - 1) / 2, bars, width=0.9 * width, color=drawing.BLUE, linewidth=0)
    if most > MAX_DETECTIONS:
        axes.axvline(MAX_DETECTIONS + 0.5, color=drawing.ORANGE, linewidth=1.2, dashes=(4, 2))
        axes.annotate(
            f"{MAX_DETECTIONS}: COCO's limit", (MAX_DETECTIONS + 0.5, 1), (-5, -12), color=drawing.ORANGE, ha="right",
            xycoords=("data", "axes fraction"), textcoords="offset points", size=11,
        )  # fmt: skip
    axes.set_xlim(-0.7 * width, most + width)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: brief(value))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
    axes.set_xlabel("objects in a picture" + (f", in steps of {width}" if width > 1 else ""))
    axes.set_ylabel("pictures")
    return drawing.svg(fig, "crowding", f"Pictures by the number of their objects, from none to {most}")


def _heat(values: np.ndarray) -> np.ndarray:
    """(..., 4) one colour, more opaque for values nearer to 1; nothing where nothing is."""
    rgba = np.empty((*values.shape, 4))
    rgba[..., :3] = drawing.HEAT_RGB
    rgba[..., 3] = np.where(values > 0, 0.06 + 0.94 * values**0.7, 0)
    return rgba
