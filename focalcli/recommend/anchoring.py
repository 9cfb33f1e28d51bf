"""Boxes -> anchor sizes and ratios: those that starve the boxes least, and RetinaNet's own where they do as well.

A box is reached when an anchor meets it at IoU 0.5. Sizes double from level to level, as the strides do; that leaves
one number, the size on P3, and it is tried out. Steps of 1.7 in place of 2 were tried on bccd, face_mask, deeppcb,
TACO and sample_data: no class was reached better. Ratios change only for a gain in reach: more anchors a cell always
give a box more positives, and that alone is no better fit.

Sources: Lin et al. 2017, arXiv:1708.02002, sec. 4 (RetinaNet's own: 32 to 512 px, 1:2, 1:1, 2:1).
Shapes: B boxes, K classes of the file, L = 5 levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from focalcli import anchors
from focalcli.anchors import FOREGROUND_IOU, AnchorSpec, MatchCounts
from focalcli.anchors.grid import Ints
from focalcli.audit.checks.anchors import COARSE_CELLS, COARSE_SHARE, STARVED_SHARE
from focalcli.coco import Bools, Dataset, Floats
from focalcli.recommend.advice import Advice, ClassFit
from focalcli.recommend.boxes import Boxes, at_network_size

BASE_SIZES = (8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64)  # of P3; 32 is RetinaNet's own
RETINANET = AnchorSpec()
SAME_REACH = 0.01  # of the mean over classes: less is no reason to leave RetinaNet's own
SAME_HUNGER = 0.05  # for example 4.2 in place of 5.3 positives a box
COARSE_COSTS = 0.02  # reach that may be given up to keep a class off a level that is too coarse for it
MORE_SHAPES_PAY = 0.03  # reach that 15 anchors a cell must gain over 9
FAIR_REACH = 0.5  # of all boxes: less is not called fine
ENOUGH_REACH, GOOD_REACH = 0.9, 0.97  # of the mean over classes: a larger input is tried below one, up to the other
LARGER = (1.5, 2.0, 2.5, 3.0)  # times the input size
LEAST_STEP = 1.25  # between two ratios: closer ones are one shape
SEARCHED, JUDGED, LEAST_OF_CLASS = 2_000, 40_000, 5  # boxes; so many are counted by machine code


@dataclass(frozen=True)
class Fit:
    """How an anchor grid serves the classes.

    Attributes:
        present: (K,) classes with boxes. reached: (K,) share of their boxes with IoU >= 0.5 to an anchor.
        hunger: (K,) mean of 1 / positives of IoU >= 0.5 over their boxes, where none counts as half a positive.
        coarse: classes that lean on a level which is too coarse for them and hardly trained (F402).
    """

    present: Bools
    reached: Floats
    hunger: Floats
    coarse: int

    @property
    def mean_reached(self) -> float:
        """Each class counted alike, however many boxes it has."""
        return float(self.reached[self.present].mean())

    @property
    def starvation(self) -> float:
        """Mean hunger, each class alike. The first positives of a box matter most, hence the reciprocals."""
        return float(self.hunger[self.present].mean())

    def of_all(self, objects: Ints) -> float:
        """Share of all boxes that are reached. objects: (K,) how many boxes each class has in the whole set."""
        return float((self.reached * objects).sum() / objects.sum())

    def hungriest(self) -> int:
        return int(np.argmax(np.where(self.present, self.hunger, -1.0)))


def fit_of(boxes: Boxes, spec: AnchorSpec) -> Fit:
    """How a grid serves these boxes."""
    counts = anchors.count(boxes.xyxy, boxes.image, boxes.grid, spec)
    reached, k = counts.best_iou >= FOREGROUND_IOU, int(boxes.label.max()) + 1
    good = np.where(reached, counts.positives.sum(axis=1), 0)
    n = np.bincount(boxes.label, minlength=k)
    per_class = np.bincount(boxes.label, weights=1 / np.maximum(good, 0.5), minlength=k)
    share = np.bincount(boxes.label, weights=reached, minlength=k)
    return Fit(n > 0, share / np.maximum(n, 1), per_class / np.maximum(n, 1), _coarse(counts, boxes, k))


def _coarse(counts: MatchCounts, boxes: Boxes, k: int) -> int:
    """How many classes the audit's F402 would name; with the mean side in cells, not the median."""
    box, level = counts.positives.nonzero()
    times = counts.positives[box, level]
    side = np.sqrt((boxes.xyxy[:, 2] - boxes.xyxy[:, 0]) * (boxes.xyxy[:, 3] - boxes.xyxy[:, 1]))
    cells = side[box] / np.sqrt(boxes.grid[boxes.image[box], level, 2:].prod(axis=1))
    place = boxes.label[box] * len(anchors.LEVELS) + level
    shape = (k, len(anchors.LEVELS))
    on_level = np.bincount(place, weights=times, minlength=shape[0] * shape[1]).reshape(shape)
    mean_cells = np.bincount(place, weights=times * cells, minlength=shape[0] * shape[1]).reshape(shape)
    mean_cells /= np.maximum(on_level, 1)
    share = on_level / np.maximum(on_level.sum(axis=1, keepdims=True), 1)
    starved = on_level.sum(axis=0) < STARVED_SHARE * max(1.0, on_level.sum())
    return int(((share >= COARSE_SHARE) & (mean_cells < COARSE_CELLS) & starved).any(axis=1).sum())


def advise(boxes: Boxes, names: Sequence[str], given: Mapping[str, Any]) -> tuple[Advice, Advice]:
    """The advice for anchors.sizes and anchors.ratios. names: (K,). given: dotted keys that the user decided."""
    judged = boxes.some(JUDGED, LEAST_OF_CLASS)
    objects = np.bincount(boxes.label)
    own = fit_of(judged, RETINANET)
    spec = _search(boxes.some(SEARCHED, LEAST_OF_CLASS), given)
    fit = fit_of(judged, spec)
    free = "anchors.sizes" not in given and "anchors.ratios" not in given
    same = own.mean_reached >= fit.mean_reached - SAME_REACH and own.starvation <= fit.starvation + SAME_HUNGER
    if free and same and own.coarse <= fit.coarse:
        spec, fit = RETINANET, own
    worst = fit.hungriest()
    figures = {
        "reached": fit.of_all(objects),
        "reached_by_default": own.of_all(objects),
        "hungriest_class": names[worst],
        "positives_per_box": float(1 / fit.hunger[worst]),
        "by_default": float(1 / own.hunger[own.hungriest()]),
        "reached_class_mean": fit.mean_reached,
        "reached_class_mean_by_default": own.mean_reached,
        "classes_on_a_level_too_coarse": fit.coarse,
        "boxes": len(judged.xyxy),
    }
    exact = len(judged.xyxy) == len(boxes.xyxy)
    confidence = "exact for these annotations" if exact else f"on {len(judged.xyxy):,} boxes, as many of each class"
    source = "torchvision's matcher, box by box"
    return (
        Advice("anchors.sizes", spec.sizes, _sizes_reason(spec, figures, given), figures, source, confidence),
        _ratios(judged, spec, fit, given, source, confidence),
    )


def larger_input(train: Dataset, size: Advice, reached: float) -> str:
    """What a larger input would reach, as an addition to the reason for this one; empty where enough is reached.

    Sizes beyond the pictures' own are not tried. reached: the mean over classes, at this size.
    """
    own, ratio = size.figures["median_short_side"], size.figures["max_size"] / size.value
    tried: tuple[int, float] | None = None
    for factor in LARGER:
        side = min(round(factor * size.value), own) // anchors.PAD * anchors.PAD
        if reached >= ENOUGH_REACH or side <= (tried[0] if tried else size.value):
            break
        sample = at_network_size(train, side, round(side * ratio)).some(SEARCHED, LEAST_OF_CLASS)
        tried = side, fit_of(sample, _search(sample, {"anchors.ratios": RETINANET.ratios})).mean_reached
        if tried[1] >= GOOD_REACH:
            break
    if tried is None or tried[1] < reached + SAME_REACH:
        return ""
    times = (tried[0] / size.value) ** 2
    return (
        f"; small objects ask for more: at {tried[0]} px anchors would reach {tried[1]:.0%} of the boxes, each class "
        f"alike, at {size.value} px {reached:.0%}; it takes {times:.1f} times as long"
    )


def _search(sample: Boxes, given: Mapping[str, Any]) -> AnchorSpec:
    """The best size on P3 with RetinaNet's ratios, then other ratios with the sizes around it."""
    if "anchors.ratios" in given:
        shapes = [tuple(float(ratio) for ratio in given["anchors.ratios"])]
    else:
        shapes = [RETINANET.ratios, *_ratios_of(sample)]
    bases: Sequence[int] = BASE_SIZES
    best: tuple[AnchorSpec, Fit] | None = None
    for ratios in shapes:
        if "anchors.sizes" in given:
            specs = [AnchorSpec(tuple(given["anchors.sizes"]), ratios)]
        else:
            specs = [AnchorSpec(tuple(base * 2**level for level in range(5)), ratios) for base in bases]
        found = _least_starving([(spec, fit_of(sample, spec)) for spec in specs])
        pays = MORE_SHAPES_PAY if best and len(ratios) > len(best[0].ratios) else SAME_REACH
        if best is None or found[1].mean_reached > best[1].mean_reached + pays:
            best = found
        if ratios != shapes[0] and "anchors.sizes" not in given:  # the first fitted ones look at all sizes too
            at = BASE_SIZES.index(int(best[0].sizes[0]))
            bases = BASE_SIZES[max(0, at - 2) : at + 3]
    assert best is not None
    return best[0]


def _least_starving(tried: Sequence[tuple[AnchorSpec, Fit]]) -> tuple[AnchorSpec, Fit]:
    """The grid that starves boxes least, or for a little reach one that keeps classes off coarse levels."""
    best = min(tried, key=lambda entry: entry[1].starvation)
    near = [entry for entry in tried if entry[1].mean_reached >= best[1].mean_reached - COARSE_COSTS]
    return min(near, key=lambda entry: (entry[1].coarse, entry[1].starvation))


def _ratios_of(sample: Boxes) -> list[tuple[float, ...]]:
    """Three and five ratios that split these boxes evenly, each class alike, and five of RetinaNet's kind."""
    sides = sample.xyxy[:, 2:] - sample.xyxy[:, :2]
    aspect = np.log(sides[:, 1] / sides[:, 0])
    order = np.argsort(aspect)
    weight = (1.0 / np.bincount(sample.label)[sample.label])[order]
    upto = (np.cumsum(weight) - weight / 2) / weight.sum()
    found = []
    for n in (3, 5):
        middles = np.interp((np.arange(n) + 0.5) / n, upto, aspect[order])
        centre = middles[n // 2]
        least = np.log(LEAST_STEP) * (np.arange(n) - n // 2)
        offset = np.where(least < 0, np.minimum(middles - centre, least), np.maximum(middles - centre, least))
        found.append(tuple(float(f"{value:.2g}") for value in np.exp(centre + offset)))
    return [ratios for ratios in [*found, (0.25, 0.5, 1.0, 2.0, 4.0)] if len(set(ratios)) == len(ratios)]


def _sizes_reason(spec: AnchorSpec, figures: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    reached, hungriest = figures["reached"], figures["hungriest_class"]
    if spec == RETINANET:
        fine = "fine here" if reached >= FAIR_REACH else "as good as any here"
        reason = (
            f"RetinaNet's own sizes are {fine}: {reached:.1%} of the boxes meet an anchor at IoU 0.5; the worst "
            f"served class, {hungriest}, gets {figures['positives_per_box']:.1f} positive anchors a box (harmonic mean)"
        )
    else:
        reason = (
            f"{reached:.1%} of the boxes meet an anchor at IoU 0.5 (with RetinaNet's own anchors "
            f"{figures['reached_by_default']:.1%}); the worst served class, {hungriest}, gets "
            f"{figures['positives_per_box']:.1f} positive anchors a box (harmonic mean; with RetinaNet's own: "
            f"{figures['by_default']:.1f})"
        )
    if figures["classes_on_a_level_too_coarse"]:
        whatever = "" if "anchors.sizes" in given else ", whatever the sizes"
        reason += f"; a class meets a pyramid level that is too coarse for it{whatever} (`focal explain F402`)"
    return f"as asked; {reason}" if "anchors.sizes" in given else reason


def _ratios(
    judged: Boxes, spec: AnchorSpec, fit: Fit, given: Mapping[str, Any], source: str, confidence: str
) -> Advice:
    """Why these ratios: the reach with RetinaNet's three beside it."""
    value = spec.ratios
    if value == RETINANET.ratios:
        reason = "RetinaNet's own are fine here: no other three or five reach a point more, the mean over classes"
        return Advice("anchors.ratios", value, reason, {"reached_class_mean": fit.mean_reached}, source, confidence)
    own = fit_of(judged, AnchorSpec(spec.sizes, RETINANET.ratios)).mean_reached
    figures = {"reached_class_mean": fit.mean_reached, "reached_class_mean_by_default": own, "per_cell": spec.per_cell}
    reason = (
        f"{spec.per_cell} anchors a cell reach {fit.mean_reached:.1%} of the boxes, each class alike; at these sizes "
        f"1:2, 1:1 and 2:1 reach {own:.1%}"
    )
    asked = "anchors.ratios" in given
    return Advice("anchors.ratios", value, f"as asked; {reason}" if asked else reason, figures, source, confidence)


def class_fits(boxes: Boxes, spec: AnchorSpec, names: Sequence[str], prior: float) -> tuple[ClassFit, ...]:
    """How a grid serves each class that has boxes, counted on every box. prior: what a class starts from."""
    counts = anchors.count(boxes.xyxy, boxes.image, boxes.grid, spec)
    every, total = counts.positives.sum(axis=1), float(anchors.anchors_per_image(spec, boxes.grid).sum())
    order = np.lexsort((every, boxes.label))
    n = np.bincount(boxes.label, minlength=len(names))
    first = np.cumsum(n) - n
    positives = np.bincount(boxes.label, weights=every, minlength=len(names))
    reached = np.bincount(boxes.label[counts.best_iou >= FOREGROUND_IOU], minlength=len(names))
    fits = []
    for k in np.flatnonzero(n).tolist():
        middle = every[order[[first[k] + (n[k] - 1) // 2, first[k] + n[k] // 2]]]
        fits.append(
            ClassFit(
                name=names[k],
                objects=int(n[k]),
                foreground=max(1.0, float(positives[k])) / max(1.0, total - float(positives[k])),  # as foreground_of
                positives_per_box=float(middle.mean()),
                reached=float(reached[k] / n[k]),
                prior=prior,
            )
        )
    return tuple(fits)
