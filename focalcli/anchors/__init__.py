"""RetinaNet's anchors and their assignment to boxes, exactly as torchvision does it, without torch.

The grid, the resize and the matcher follow torchvision's AnchorGenerator, GeneralizedRCNNTransform and Matcher (0.5,
0.4, low-quality matches allowed) to the last anchor, ties included; tests/test_anchors.py holds the two together. The
matcher looks only at anchors that can overlap a box enough to matter, so a picture costs what its boxes cost, not what
its 200,000 anchors cost. Training asks which anchor goes to which box (match), the audit only how many (count).

Inside: grid (the anchors), matching (the matcher, numpy), counting (its counts, for any number of boxes), compiled (the
same counts from machine code, for many boxes).

Source: Lin et al. 2017, arXiv:1708.02002, sec. 4 (anchors on P3 to P7, IoU 0.5 and 0.4).
Shapes: I images, B boxes, L = 5 levels, A anchor shapes per cell. Pixels are those of the resized picture. Anchor
indices count levels, then rows, then columns, then shapes, as the concatenated output of a RetinaNet head does.
"""

from focalcli.anchors.counting import count
from focalcli.anchors.grid import (
    LEVELS,
    PAD,
    AnchorSpec,
    anchors_of,
    anchors_per_image,
    anchors_per_level,
    grids,
    network_size,
    padded,
    resize_boxes,
)
from focalcli.anchors.matching import BACKGROUND_IOU, FOREGROUND_IOU, MatchCounts, Matches, match

__all__ = [
    "BACKGROUND_IOU",
    "FOREGROUND_IOU",
    "LEVELS",
    "PAD",
    "AnchorSpec",
    "MatchCounts",
    "Matches",
    "anchors_of",
    "anchors_per_image",
    "anchors_per_level",
    "count",
    "grids",
    "match",
    "network_size",
    "padded",
    "resize_boxes",
]
