"""How many anchors each box gets: what match() finds, counted, for any number of boxes.

numpy needs 22 s for COCO's 860,000 boxes (2 cores, 800 px), most of it to move tens of millions of pairs through
memory. So many boxes go to compiled.py, where one takes 3 us. Few boxes stay here: importing numba costs more than they
do.

Shapes: as in anchors/__init__.py.
"""

from __future__ import annotations

import numpy as np

from focalcli.anchors.grid import LEVELS, AnchorSpec, Floats32, Ints
from focalcli.anchors.matching import MatchCounts, Matches, match_in_parts

COMPILED_FROM = 30_000  # boxes: a second for numpy; for the compiler two when it runs for the first time, else 0.3


def count(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> MatchCounts:
    """Count the matches of each box. The arguments are those of match() and so are the anchors, to the last one."""
    if len(boxes) >= COMPILED_FROM:
        try:
            from focalcli.anchors import compiled
        except ImportError:  # no numba, or none for this numpy
            pass
        else:
            return compiled.count(boxes, box_image, grid, spec)
    return count_with_numpy(boxes, box_image, grid, spec)


def count_with_numpy(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> MatchCounts:
    """count(), whatever the number of boxes and without numba."""
    counts = MatchCounts.zeros(len(boxes))
    for chunk, found in match_in_parts(boxes, box_image, grid, spec):
        counts.positives[chunk] = _by_box_and_level(found, found.positive, len(chunk))
        counts.ignored[chunk] = _by_box_and_level(found, ~found.positive, len(chunk))
        counts.best_iou[chunk] = found.best_iou
    return counts


def _by_box_and_level(found: Matches, which: np.ndarray, boxes: int) -> Ints:
    """(boxes, L) how many of these matches each box has on each level."""
    place = found.box[which] * len(LEVELS) + found.level[which]
    return np.bincount(place, minlength=boxes * len(LEVELS)).reshape(boxes, len(LEVELS))
