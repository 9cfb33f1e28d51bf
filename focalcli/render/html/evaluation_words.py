"""What costs a detector most, in plain sentences: the figures of a Diagnosis, the dearest kind of error first."""

from __future__ import annotations

from collections.abc import Iterable

from focalcli.evaluation import TYPES, ApTable, ClassAp, ClassErrors, Confusion, Diagnosis, Suspect
from focalcli.render.html.problems import Problem
from focalcli.render.html.wording import listed, plural, shown

LEAST_POINTS = 0.5  # of the mean AP50, to be named
CLASSES_NAMED, PAIRS_NAMED = 2, 2
SURE = 0.5  # of a dispute: the detector is right more often than not
_TITLES = {
    "classification": "Wrong classes cost",
    "localisation": "Loose boxes cost",
    "both": "Wrong class and place at once cost",
    "duplicate": "Objects found twice cost",
    "background": "Detections of nothing cost",
    "missed": "Missed objects cost",
}
_REMEDIES = {
    "classification": "Check the labels of such pairs first (see the suspects). Then show the rarer class of a pair "
    "more often, or collect more pictures of it.",
    "localisation": "See in `focal audit` whether the anchors fit the class, and among the suspects whether its labels "
    "are drawn loosely.",
    "both": "These mostly follow from wrong classes and loose boxes: put those right first.",
    "duplicate": "Lower `eval.nms_iou`, unless the objects themselves overlap that much.",
    "background": "Look at the pictures: an object without a label counts as nothing too (see the suspects). What is "
    "nothing indeed gets rarer with training pictures that show it.",
    "missed": "See which sizes are missed; `focal audit` says whether anchors reach them. A larger input helps small "
    "objects, more pictures a rare class.",
}


def find_losses(table: ApTable, diagnosis: Diagnosis) -> list[Problem]:
    """The kinds of error that cost at least LEAST_POINTS of the mean AP50, the dearest first."""
    gains = diagnosis.errors.gains
    points = {kind: 100 * (gains[kind] or 0.0) for kind in TYPES}
    dear = sorted((kind for kind in TYPES if points[kind] >= LEAST_POINTS), key=lambda kind: -points[kind])
    several = sum(row.n_val > 0 for row in table.classes) > 1
    return [
        Problem(
            weight=points[kind] / 100,
            title=f"{_TITLES[kind]} {points[kind]:.1f} points of {'the mean ' * several}AP50",
            text=_text(kind, diagnosis),
            remedy=_REMEDIES[kind],
            section="confusion" if kind == "classification" else "errors",
        )
        for kind in dear
    ]


def _text(kind: str, diagnosis: Diagnosis) -> str:
    rows = [row for row in diagnosis.errors.classes if (row.gains[kind] or 0.0) >= 0.0005]  # 0.0 is not said
    rows.sort(key=lambda row: -(row.gains[kind] or 0.0))
    named = [f"{shown(row.name)} {100 * (row.gains[kind] or 0.0):.1f} ({_count(kind, row)})" for row in rows]
    text = f"Of each class: {listed(named, CLASSES_NAMED)}."
    if kind == "classification" and (pairs := confused_pairs(diagnosis.confusion)):
        text += f" At the operating points {listed(pairs, PAIRS_NAMED)}."
    return text


def _count(kind: str, row: ClassErrors) -> str:
    n = row.counts[kind]
    if kind == "missed":
        return f"{n:,} of {plural(row.n_val, 'object')}"
    if kind == "classification" and not n:
        return "its objects under other names"
    words = {
        "classification": "on other classes' objects",
        "localisation": "with an IoU of 0.1 to 0.5",
        "both": "on other classes' objects, badly placed",
        "duplicate": "on objects found already",
        "background": "on no object",
    }
    return f"{plural(n, 'detection')} {words[kind]}"


def unlabelled(entry: ClassAp, suspects: Iterable[Suspect]) -> list[str]:
    """How many of a class's detections on nothing are so sure that it may be the label that is missing."""
    own = [row for row in suspects if row.kind == "missed label" and row.found == entry.name and row.dispute >= SURE]
    if not own:
        return []
    n, is_one = plural(len(own), "detection"), len(own) == 1
    return [f"{n} on nothing {'is' if is_one else 'are'} so sure that the label may be missing (see the suspects)"]


def confused_pairs(confusion: Confusion) -> list[str]:
    """Which objects are called otherwise, those with the most first."""
    names, matrix = confusion.names, confusion.matrix
    classes = range(len(names) - 1)
    pairs = sorted(
        (-matrix[row][column], row, column)
        for row in classes
        for column in classes
        if row != column and matrix[row][column]
    )
    return [
        f"{-count:,} of {plural(sum(matrix[row]), 'object')} of {shown(names[row])} are called {shown(names[column])}"
        for count, row, column in pairs[:PAIRS_NAMED]
    ]
