"""Plots of the classes: how many objects, how many pictures, what of the loss, which share of each split.

Each is an <svg> string; None where there is nothing to draw. Of many classes those of `drawn` are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from focalcli.anchors import LEVELS
from focalcli.audit import AuditReport, ClassRow, SplitReport
from focalcli.coco import GROUP_IMAGES
from focalcli.render.html import drawing
from focalcli.render.html.wording import brief, count, label, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 24
OF_THE_HEAD = 16  # of MOST_CLASSES


def drawn(train: SplitReport) -> list[ClassRow]:
    """The classes that plots show, the most frequent first."""
    rows = sorted((row for row in train.classes if row.instances), key=lambda row: -row.instances)
    return rows if len(rows) <= MOST_CLASSES else rows[:OF_THE_HEAD] + rows[OF_THE_HEAD - MOST_CLASSES :]


@drawing.styled()
def class_bars(train: SplitReport) -> str | None:
    """Objects per class on a log scale, coloured by frequency group."""
    rows = drawn(train)
    if not rows:
        return None
    names = [label(row.name) for row in rows]
    fig = drawing.figure(46 + drawing.rows_px(len(rows)))
    axes = drawing.axes(fig, left=drawing.label_space(names), right=64, top=6)
    places = np.arange(len(rows))
    values = [row.instances for row in rows]
    colours = [drawing.GROUP_COLOURS.get(row.group, drawing.MUTED) for row in rows]
    axes.hlines(places, 0.8, values, colors=colours, linewidth=9)
    for place, value in zip(places, values, strict=True):
        axes.annotate(count(value), (value, place), (7, 0), textcoords="offset points", va="center", size=11)
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(values) * 1.15)
    drawing.count_ticks(axes.xaxis)
    axes.set_xlabel("objects, log scale")
    drawing.class_axis(axes, names)
    axes.grid(axis="x")
    return drawing.svg(fig, "bars", f"Objects of each class, from {count(values[0])} down to {count(values[-1])}")


@drawing.styled()
def rank_plot(train: SplitReport) -> str | None:
    """Training images of each class by rank, log scale, with LVIS's three zones."""
    images = sorted((row.images for row in train.classes if row.images), reverse=True)
    if not images:
        return None
    fig = drawing.figure(280)
    axes = drawing.axes(fig, left=52, right=14, top=8, bottom=40)
    top = max(images[0] * 1.6, 160)
    for group, (low, high) in GROUP_IMAGES.items():
        bottom, ceiling = max(0.8, low - 0.5), top if high is None else high + 0.5
        axes.axhspan(bottom, ceiling, facecolor=drawing.GROUP_COLOURS[group], alpha=0.12, linewidth=0)
        text = f"{group}, {low} to {high} images" if high else f"{group}, {low} images or more"
        # a falling curve leaves the upper right and the lower left free
        right = group == "frequent"
        axes.annotate(
            text, (right, ceiling if right else bottom), (-8, -6) if right else (8, 6), size=11,
            xycoords=("axes fraction", "data"), textcoords="offset points", color=drawing.MUTED,
            ha="right" if right else "left", va="top" if right else "bottom",
        )  # fmt: skip
    ranks = np.arange(1, len(images) + 1)
    marker = "o" if len(images) <= 100 else ""
    axes.plot(ranks, images, color=drawing.INK, linewidth=1.5, marker=marker, markersize=4.5)
    axes.set_yscale("log")
    axes.set_ylim(0.8, top)
    axes.set_xlim(0.5 if len(images) < 40 else 0, len(images) + (0.5 if len(images) < 40 else 1))
    drawing.count_ticks(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("classes, the most frequent first")
    axes.set_ylabel("images that hold the class")
    return drawing.svg(fig, "rank", f"Images of {len(images)} classes by rank, from {images[0]} to {images[-1]}")


@drawing.styled()
def loss_stages(stages: Sequence[tuple[str, float]]) -> str:
    """What share of the first loss negatives carry. stages: (what is trained with, share in 0..1)."""
    fig = drawing.figure(38 + 46 * len(stages))
    axes = drawing.axes(fig, left=14, right=64, top=2, bottom=36)
    for place, (name, share) in enumerate(stages):
        axes.barh(place, 1, height=0.34, color=drawing.ORANGE, linewidth=0)
        axes.barh(place, share, height=0.34, color=drawing.BLUE, linewidth=0)
        axes.annotate(name, (0, place), (0, 10), textcoords="offset points", va="bottom", size=12)
        value = f"{percent(share)} %"
        axes.annotate(value, (1, place), (6, 0), textcoords="offset points", va="center", weight="bold")
    axes.set_ylim(len(stages) - 0.6, -0.85)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25", "50", "75", "100 %"])
    axes.spines["left"].set_visible(False)
    words = "; ".join(f"{name}: {percent(share)} %" for name, share in stages)
    return drawing.svg(fig, "loss", f"Share of the first loss that negatives carry. {words}")


@drawing.styled()
def anchors_by_level(train: SplitReport) -> str | None:
    """Positive, ignored and background anchors of P3 to P7, log scale."""
    levels = train.anchors.by_level
    if not train.anchors.positives:
        return None
    fig = drawing.figure(280)
    axes = drawing.axes(fig, left=58, right=10, top=28, bottom=28)
    kinds = (("positive", drawing.ORANGE), ("ignored", drawing.MUTED), ("background", drawing.BLUE))
    for number, (kind, colour) in enumerate(kinds):
        places = np.arange(len(levels)) + 0.28 * (number - 1)
        values = [level[number] for level in levels]
        axes.bar(places, values, width=0.25, color=colour, label=kind, linewidth=0)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                brief(value), (place, max(value, 0.8)), (0, 3), textcoords="offset points", ha="center", size=9
            )
    axes.set_yscale("log")
    axes.set_ylim(0.8, 4 * max(max(level) for level in levels))
    drawing.count_ticks(axes.yaxis)
    axes.set_xticks(range(len(levels)), LEVELS)
    axes.tick_params(axis="x", length=0, labelcolor=drawing.INK)
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, borderpad=0.2)
    words = "; ".join(
        f"{name} {p:,} positive, {n:,} background" for name, (p, _, n) in zip(LEVELS, levels, strict=True)
    )
    return drawing.svg(fig, "levels", f"Anchors on each level. {words}")


@drawing.styled()
def split_shares(report: AuditReport, train: SplitReport) -> str | None:
    """The share of each class in each split, log scale."""
    rows = drawn(train)
    if len(report.splits) < 2 or not rows:
        return None
    names = [label(row.name) for row in rows]
    colours = {split.name: drawing.SERIES[n % len(drawing.SERIES)] for n, split in enumerate(report.splits)}
    markers = {split.name: "osD^v"[n % 5] for n, split in enumerate(report.splits)}
    by_split = {split.name: {row.name: row.share for row in split.classes} for split in report.splits}
    fig = drawing.figure(66 + drawing.rows_px(len(rows)))
    axes = drawing.axes(fig, left=drawing.label_space(names), right=20, top=26)
    for place, row in enumerate(rows):
        shares = [share for split in by_split.values() if (share := split.get(row.name))]
        for low, high in pairwise(sorted(shares)):
            axes.plot([100 * low, 100 * high], [place, place], color=drawing.MUTED, linewidth=1.5, zorder=1)
    for name, shares in by_split.items():
        points = [(100 * share, place) for place, row in enumerate(rows) if (share := shares.get(row.name))]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(
                x, y, s=46, color=colours[name], marker=markers[name], label=label(name), zorder=2, linewidths=0
            )
    axes.set_xscale("log")
    _share_ticks(axes, [share for split in by_split.values() for row in rows if (share := split.get(row.name))])
    drawing.class_axis(axes, names)
    axes.grid(axis="both")
    axes.set_xlabel("share of the split's objects, log scale")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, borderpad=0.2)
    return drawing.svg(fig, "shares", f"Share of each class in {', '.join(map(label, by_split))}")


def _share_ticks(axes: Axes, shares: Sequence[float]) -> None:
    """Ticks in per cent on a log axis; its room keeps splits that hardly differ close together."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = 100 * min(shares) / 1.5, min(100 * max(shares) * 1.5, 110)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [step * 10.0**power for power in range(-5, 3) for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) > 2:
            break
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
