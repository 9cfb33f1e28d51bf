"""Dataset + Detections -> what came of each class: its AP, how sure that number is, and why it is what it is.

`evaluate` gives COCO's table, `diagnose` says what went wrong, `measure` and `compare` tell two detectors apart, `fit`
makes scores chances.

Inside, from below: matching (which detection finds which object), accumulate (COCO's precision and recall), referee
(pycocotools'), bootstrap (intervals over images), curves (precision along recall, operating points), ap (the table);
result (the table and all that belongs to it); saved (a table of an earlier time), limits and gates (what CI asks for);
compare and versus (two detectors, and several); errors, confusion, calibration and diagnosis (why); suspects and worst
(labels and pictures to look at first); scaling (scores as chances) and held_out (what that is worth); misread (other
tools' mistakes). numpy only.
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
from focalcli.evaluation.compare import (
    BY_CHANCE,
    FEWEST_IMAGES,
    METRICS,
    ClassDifference,
    Comparison,
    Difference,
    Measured,
    Metric,
    compare,
    measure,
)
from focalcli.evaluation.confusion import Confusion, confusion
from focalcli.evaluation.curves import OperatingPoint, PrCurve
from focalcli.evaluation.diagnosis import ClassBreakdown, Diagnosis, diagnose
from focalcli.evaluation.errors import TYPES, ClassErrors, Errors, find_errors
from focalcli.evaluation.gates import Gate, baseline_warnings, check
from focalcli.evaluation.held_out import Change, HeldOut, hold_out
from focalcli.evaluation.limits import NO_LIMITS, Limits, parse_limits
from focalcli.evaluation.matching import MAX_DETS
from focalcli.evaluation.misread import in_percent, refuse_misread
from focalcli.evaluation.result import Evaluation
from focalcli.evaluation.saved import Saved, load_saved
from focalcli.evaluation.scaling import ClassScaling, Method, Scaling, fit
from focalcli.evaluation.suspects import Suspect, find_suspects
from focalcli.evaluation.versus import Comparisons, Versus

__all__ = [
    "BY_CHANCE",
    "COUNTED_FROM_SCORE",
    "FEWEST_IMAGES",
    "FEW_OBJECTS",
    "MAX_DETS",
    "METRICS",
    "NO_LIMITS",
    "TYPES",
    "ApTable",
    "Calibration",
    "Change",
    "ClassAp",
    "ClassBreakdown",
    "ClassCalibration",
    "ClassDifference",
    "ClassErrors",
    "ClassScaling",
    "Comparison",
    "Comparisons",
    "Confusion",
    "Diagnosis",
    "Difference",
    "Engine",
    "Errors",
    "Evaluation",
    "Gate",
    "HeldOut",
    "Limits",
    "Measured",
    "Method",
    "Metric",
    "OperatingPoint",
    "PrCurve",
    "Saved",
    "Scaling",
    "Suspect",
    "Versus",
    "baseline_warnings",
    "calibration",
    "check",
    "compare",
    "confusion",
    "diagnose",
    "evaluate",
    "find_errors",
    "find_suspects",
    "fit",
    "hold_out",
    "in_percent",
    "judge",
    "load_saved",
    "measure",
    "parse_limits",
    "refuse_misread",
]
