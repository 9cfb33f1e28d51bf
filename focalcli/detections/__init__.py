"""Detections: what a detector found, and the file they travel in.

The seam between detectors and scores is a file, COCO results JSON, so any detector can be scored; what it may not hold
(unknown ids, numbers that are not finite) is refused by name, never scored as a silent 0.

Inside: arrays (the result), ids (those that the dataset does not have), reading and writing (the file).
"""

from focalcli.detections.arrays import Detections, refuse_unscorable
from focalcli.detections.reading import MOST_DETECTIONS, load_detections
from focalcli.detections.writing import results_json

__all__ = ["MOST_DETECTIONS", "Detections", "load_detections", "refuse_unscorable", "results_json"]
