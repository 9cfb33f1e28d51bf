"""Dataset + Detections -> what came of each class: its AP, how sure that number is, and why it is what it is.

`evaluate` gives COCO's table, `diagnose` says what went wrong, `compare` tells two detectors apart, `fit` makes scores
chances.

Inside, from below: matching (which detection finds which object), accumulate (COCO's precision and recall), referee
(pycocotools'), bootstrap (intervals over images), curves (precision along recall, operating points), ap (the table);
compare (two detectors); errors, confusion, calibration
and diagnosis (why); scaling (scores as chances); misread (other tools' mistakes). numpy
only.
"""

from focalcli.evaluation.ap import (
    COUNTED_FROM_SCORE,
    FEW_OBJECTS,
    ApTable,
    ClassAp,
    Engine,
    evaluate,
)
from focalcli.evaluation.calibration import Calibration, ClassCalibration, calibration, judge
from focalcli.evaluation.compare import ClassDifference, Comparison, Difference, compare
from focalcli.evaluation.confusion import Confusion, confusion
from focalcli.evaluation.curves import OperatingPoint, PrCurve
from focalcli.evaluation.diagnosis import ClassBreakdown, Diagnosis, diagnose
from focalcli.evaluation.errors import TYPES, ClassErrors, Errors, find_errors
from focalcli.evaluation.matching import MAX_DETS
from focalcli.evaluation.misread import in_percent, refuse_misread
from focalcli.evaluation.scaling import Method, Scaling, fit

__all__ = [
    "COUNTED_FROM_SCORE",
    "FEW_OBJECTS",
    "MAX_DETS",
    "TYPES",
    "ApTable",
    "Calibration",
    "ClassAp",
    "ClassBreakdown",
    "ClassCalibration",
    "ClassDifference",
    "ClassErrors",
    "Comparison",
    "Confusion",
    "Diagnosis",
    "Difference",
    "Engine",
    "Errors",
    "Method",
    "OperatingPoint",
    "PrCurve",
    "Scaling",
    "calibration",
    "compare",
    "confusion",
    "diagnose",
    "evaluate",
    "find_errors",
    "fit",
    "in_percent",
    "judge",
    "refuse_misread",
]
