"""F4: anchors."""

from __future__ import annotations

from focalcli.audit.rules.page import Rule

RULES = (
    Rule(
        "F401", "anchors-miss-boxes", "warning", "class",
        what="A class with more than 10 % of its boxes below IoU 0.5 with every anchor.",
        why="Such a box has at best its one rescued anchor, which overlaps it badly, and many toolkits rescue none: "
        "the class trains on a fraction of its objects. Small objects after the resize are the usual case: with "
        "anchors from 32 px, a square of 16 px has a best IoU of 0.25, one of 22 px 0.47.",
        example="'Platelets': 43 % of 259 boxes overlap no anchor with IoU >= 0.5",
        fix="fit the anchors to the boxes (`focal recommend` does), or raise the network size",
        source="Lin et al. 2017, arXiv:1708.02002, sec. 4 (IoU 0.5 and 0.4); torchvision det_utils.Matcher",
    ),
    Rule(
        "F402", "level-too-coarse", "warning", "class",
        what="A class with 25 % or more of its positives on a level where its boxes span fewer than 2.5 cells a side "
        "(median) and which holds less than 10 % of all positives.",
        why="That level sees few positives, and too few cells to place a box: its head features stay untrained. On "
        "BCCD at 320 px with anchors 16 to 256, where white cells of 126 px put 45 % of their positives on P6 (2 "
        "cells a side, 4 % of all positives), the class ended at AP50 0.07 or 0.99 by luck of the seed; with anchors "
        "24, 48, 96, 160, 256 it was always learned. RetinaNet's own anchors give 4 to 8 cells a side.",
        example="'WBC': 45 % of its positives are on P6, where its boxes span 2.0 cells and 4 % of all positives lie",
        fix="raise the anchor sizes so that the class moves to a finer level (`focal recommend` fits them)",
        source="measured; Lin et al. 2017, arXiv:1708.02002, sec. 4 (areas 32^2 to 512^2 on strides 8 to 128)",
    ),
    Rule(
        "F403", "picture-without-positive", "error", "image",
        what="A picture with objects none of which overlaps any anchor at all.",
        why="torchvision's matcher then makes every anchor of IoU 0 a positive of the picture's first box, and the "
        "whole background is taught as that object. focal gives such a box no anchor: the picture trains as empty.",
        example="image 12 and 2 more: no anchor touches any object (3 in all)",
        fix="fit the anchors to the boxes (`focal recommend` does), or raise the network size",
        source="torchvision det_utils.Matcher.set_low_quality_matches_: the best IoU of such a box is 0, as is that of "
        "all anchors that touch nothing",
    ),
    Rule(
        "F404", "boxes-without-anchor", "warning", "class",
        what="A class of which 5 % or more of the boxes, and at least 3, get no positive anchor, not even a "
        "rescued one.",
        why="An anchor has one owner, the box it overlaps most. A small box in or beside a larger one, or one drawn "
        "twice, can lose all of its anchors; then nothing teaches the network to find it, and those on it are taught "
        "as the other class or as background.",
        example="no positive anchor for 'blur_head' 38 % of 116 boxes",
        fix="smaller anchors give small boxes some of their own; look for boxes drawn twice or around groups",
        source="Lin et al. 2017, arXiv:1708.02002, sec. 4 (at most one object an anchor); the bounds are ours",
    ),
)  # fmt: skip
