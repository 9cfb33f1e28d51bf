"""Detections as arrays, and the numbers that no score can be made of.

Shapes: D detections. Boxes are xywh in pixels of the original picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli.coco import Floats, Ints
from focalcli.errors import FocalError


@dataclass(frozen=True)
class Detections:
    """What a detector found, in the order of its file. Arrays are read-only.

    Attributes:
        image: (D,) index into Dataset.image_ids. label: (D,) index into Dataset.categories.
        boxes: (D, 4) xywh. scores: (D,) any finite numbers, higher is surer.
        calibrated: the scores were mapped to chances (evaluation.scaling), which are written with all their digits:
            where the map is flat, five would make ties of scores that differed.
    """

    image: Ints
    label: Ints
    boxes: Floats
    scores: Floats
    calibrated: bool = False

    def __post_init__(self) -> None:
        for array in (self.image, self.label, self.boxes, self.scores):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.scores)

    def rounded(self) -> Detections:
        """As `results_json` writes them: boxes to 0.01 px, scores to 0.00001 unless they are calibrated.

        Rounding makes ties, and ties can move AP by 1e-4: score these where a saved file must give the same AP.
        """
        return Detections(
            image=self.image,
            label=self.label,
            boxes=np.round(self.boxes.astype(np.float64), 2),
            scores=self.scores if self.calibrated else np.round(self.scores.astype(np.float64), 5),
            calibrated=self.calibrated,
        )


def refuse_unscorable(detections: Detections, place: str) -> None:
    """Raise FocalError on numbers that COCOeval would turn into nonsense without a word."""
    x, y, w, h = detections.boxes.astype(np.float64).T
    with np.errstate(over="ignore", invalid="ignore"):
        # corners and area too: where these overflow, the IoU is NaN, and COCOeval takes NaN for a match
        finite = np.isfinite([x, y, w, h, x + w, y + h, w * h, detections.scores]).all(axis=0)
    for bad, what, hint in (
        (~finite, "a box or a score that is not finite", "did the model diverge? Run it from an earlier checkpoint"),
        ((w < 0) | (h < 0), "a box of negative size", "`bbox` is [x, y, width, height], not two corners"),
    ):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            values = f"bbox {detections.boxes[first].tolist()}, score {float(detections.scores[first])}"
            raise FocalError(
                f"{place}: {bad.sum()} of {len(detections)} detections have {what}: number {first} has {values}; "
                "expected finite numbers, width and height >= 0",
                hint,
            )
