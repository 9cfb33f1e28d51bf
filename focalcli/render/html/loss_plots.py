"""Plots of a loss: its cost by p_t, its gradient by logit, how a model scores, and figure 4 of the paper for it.

Each is a Figure in drawing's stand-in colours with a title in words; the page makes SVG of it, plots.png PNG.
Source: Lin et al. 2017, arXiv:1708.02002, fig. 1, 4 and 6.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from focalcli.files import write_whole
from focalcli.focal_loss import focal_gradient, focal_loss
from focalcli.recommend.measured import BINS, Measured, Scores, cumulative, unit_losses
from focalcli.render.html import drawing
from focalcli.render.html.evaluation_plots import Plot
from focalcli.render.plots import png

FIGURE_4 = (0.0, 0.5, 1.0, 2.0)  # gammas
_DASHES = ("-", (0, (7, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))  # where colours cannot be told apart
_COARSER = 16  # bins of the histogram to one of the plot


def loss_plots(alpha: float, gamma: float, measured: Measured | None) -> dict[str, Plot]:
    """Name -> plot. The caller is inside drawing.styled() until it has saved them."""
    plots = {"loss": _loss(alpha, gamma), "gradient": _gradient(alpha, gamma)}
    if measured is not None:
        plots["scores"] = _scores(measured)
        for positive, name in ((True, "positives"), (False, "negatives")):
            if (plot := _figure_4(measured, positive)) is not None:
                plots[f"cumulative-{name}"] = plot
    return plots


def save_loss_plots(alpha: float, gamma: float, measured: Measured | None, folder: Path) -> tuple[str, ...]:
    """Write each plot as PNG; returns their names.

    Raises:
        FocalError: the folder cannot be written to.
    """
    with drawing.styled():
        made = {f"{name}.png": png(plot.figure) for name, plot in loss_plots(alpha, gamma, measured).items()}
    for name, content in made.items():
        write_whole(folder / name, content, "--plots DIR")
    return tuple(made)


def _loss(alpha: float, gamma: float) -> Plot:
    """The cost of a positive and of a negative along p_t, with cross-entropy beside them."""
    fig = drawing.figure(270)
    axes = drawing.axes(fig, left=50, right=12, top=28, bottom=40)
    p = np.linspace(0.005, 0.999, 300)
    logit = np.log(p) - np.log1p(-p)
    axes.plot(p, -np.log(p), color=drawing.MUTED, linewidth=1.5, linestyle=_DASHES[2], label="cross-entropy")
    positive = focal_loss(logit, np.full(len(p), True), alpha=alpha, gamma=gamma)
    negative = focal_loss(-logit, np.full(len(p), False), alpha=alpha, gamma=gamma)
    axes.plot(p, positive, color=drawing.ORANGE, linewidth=2, label="positive")
    axes.plot(p, negative, color=drawing.BLUE, linewidth=2, linestyle=_DASHES[1], label="negative")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 5)
    axes.set_xlabel("p_t: probability given to the truth")
    axes.set_ylabel("loss in nats")
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, borderpad=0.2)
    return Plot(fig, f"Loss along p_t at alpha {alpha:g}, gamma {gamma:g}, beside cross-entropy")


def _gradient(alpha: float, gamma: float) -> Plot:
    """How hard a positive and a negative push the logit, by its distance from the truth."""
    fig = drawing.figure(270)
    axes = drawing.axes(fig, left=50, right=12, top=28, bottom=40)
    x = np.linspace(-8, 8, 300)
    for kind, colour, dash, name in ((True, drawing.ORANGE, 0, "positive"), (False, drawing.BLUE, 1, "negative")):
        signed = x if kind else -x
        pull = np.abs(focal_gradient(signed, np.full(len(x), kind), alpha=alpha, gamma=gamma))
        axes.plot(x, pull, color=colour, linewidth=2, linestyle=_DASHES[dash], label=name)
    axes.set_xlim(-8, 8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("logit towards the truth: wrong on the left, right on the right")
    axes.set_ylabel("gradient, nats a logit")
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, borderpad=0.2)
    return Plot(fig, f"Size of the gradient by logit at alpha {alpha:g}, gamma {gamma:g}")


def _scores(measured: Measured) -> Plot:
    """How many anchors of either kind have which score, over all classes, on a log scale."""
    fig = drawing.figure(270)
    axes = drawing.axes(fig, left=54, right=12, top=28, bottom=40)
    centres = Scores.centres().reshape(-1, _COARSER).mean(axis=1)
    scores = measured.scores
    pairs = (scores.negatives, drawing.BLUE, "negatives"), (scores.positives, drawing.ORANGE, "positives")
    highest = 1
    for counts, colour, name in pairs:
        values = counts.sum(axis=0).reshape(BINS // _COARSER, _COARSER).sum(axis=1)
        highest = max(highest, int(values.max()))
        axes.step(centres, np.maximum(values, 0.5), where="mid", color=colour, linewidth=1.8, label=name)
        axes.fill_between(centres, 0.5, np.maximum(values, 0.5), step="mid", color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 3 * highest)
    drawing.count_ticks(axes.yaxis)
    ticks = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99)
    axes.set_xticks([float(np.log(p) - np.log1p(-p)) for p in ticks], [f"{p:g}" for p in ticks])
    axes.set_xlim(-18, 8)
    axes.set_xlabel("score p")
    axes.set_ylabel("anchors, log scale")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, borderpad=0.2)
    return Plot(fig, "Scores of positives and of negatives")


def _figure_4(measured: Measured, positive: bool) -> Plot | None:
    """Cumulative normalised loss for the gammas of the paper's figure; None without anchors.

    Positives as there, the easiest first. Of the negatives so few carry the loss that the curves would lie in the
    corner: the hardest come first, on a log scale.
    """
    counts = (measured.scores.positives if positive else measured.scores.negatives).sum(axis=0)
    if not counts.any():
        return None
    kind = "positives" if positive else "negatives"
    fig = drawing.figure(300)
    axes = drawing.axes(fig, left=50, right=14, top=28, bottom=40)
    for gamma, colour, dash in zip(FIGURE_4, drawing.SERIES, _DASHES, strict=False):
        share, carried = cumulative(counts, unit_losses(gamma)[0 if positive else 1])
        x, y = (share, carried) if positive else (1 - share[:-1], 1 - carried[:-1])
        axes.plot(x, y, color=colour, linewidth=2, linestyle=dash, label=f"gamma {gamma:g}")
    if positive:
        axes.set_xlim(0, 1.005)
        axes.set_xlabel("share of the positives, easiest first")
    else:
        axes.set_xscale("log")
        axes.set_xlim(max(1e-6, 1 / counts.sum()), 1)
        ticks = [tick for tick in (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1) if tick >= axes.get_xlim()[0]]
        axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axes.set_xlabel("share of the negatives, hardest first, log scale")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of their loss")
    axes.grid(axis="both")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, borderpad=0.2, columnspacing=1.2)
    return Plot(fig, f"Cumulative normalised loss of the {kind}, as figure 4 of Lin et al. 2017")
