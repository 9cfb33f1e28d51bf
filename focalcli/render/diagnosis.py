"""Why each class has its AP, in a table and in words: kinds of error, confusion, sizes, calibration.

Every figure is one of evaluation.Diagnosis, and a sentence says how many it counts. A detection matches an object from
IoU 0.5 on, as in AP50.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import ClassAp, ClassBreakdown, ClassErrors, Confusion, Diagnosis
from focalcli.evaluation.calibration import FEWEST_DETECTIONS, LEAST_SCORE
from focalcli.evaluation.diagnosis import CROWDED_IOU, Share
from focalcli.render.console import LABEL, Column, Plain, print_line, print_table
from focalcli.render.text import percent, plural

if TYPE_CHECKING:
    from rich.console import Console

WEAKEST = 3  # classes that are put into words
COSTS_NAMED, LEAST_SHARE = 2, 0.1  # kinds of error that are named, and what each must cost of the AP50 that is lacking
PAIRS_NAMED = 3  # of classes taken for each other
# objects of a kind are said to be found less when there are so many, and their recall is so much below the others'
FEWEST_OF_A_KIND, RECALL_GAP = 10, 0.15
TITLES = {
    "classification": ("cls", "on another class's object"),
    "localisation": ("loc", "IoU of 0.1 to 0.5 with its object"),
    "both": ("both", "wrong class and wrong place"),
    "duplicate": ("dup", "on an object found already"),
    "background": ("bkg", "on no object"),
    "missed": ("missed", "objects that no detection finds, nor would if its class or place were right"),
}
RARELY_DEAR = {"both": 3, "duplicate": 2}  # left out of a narrow terminal in this order


def print_diagnosis(diagnosis: Diagnosis, classes: Sequence[ClassAp], console: Console | Plain) -> None:
    """What each kind of error costs each class, the weakest classes in words, and what concerns all classes.

    Args:
        classes: those to show, in this order.
    """
    console.print()
    _print_costs(diagnosis, classes, console)
    for entry in weakest(classes):
        console.print()
        few = ", too few to be sure of what follows" if entry.has_few_objects else ""
        text = f": AP50 {percent(entry.AP50)}, {plural(entry.n_val, 'object')}{few}"
        print_line(console, (entry.name, "bold"), text)
        for sentence in story(diagnosis, entry):
            print_line(console, sentence, indent=2)
    console.print()
    for label, text in in_common(diagnosis):
        print_line(console, text, label=label, indent=LABEL)


def weakest(classes: Sequence[ClassAp]) -> list[ClassAp]:
    """Those with the lowest AP50, of equals the one with more objects first; a perfect class has nothing to explain."""
    flawed = [entry for entry in classes if entry.AP50 is not None and _lacks(entry)]
    return sorted(flawed, key=lambda entry: (entry.AP50, -entry.n_val))[:WEAKEST]


def story(diagnosis: Diagnosis, entry: ClassAp) -> list[str]:
    """What is known of a class with objects, in sentences; first what keeps its AP50 from 1, unless nothing does."""
    place = [row.category_id for row in diagnosis.errors.classes].index(entry.category_id)
    found = [
        _costs(diagnosis.errors.classes[place], entry),
        _objects(diagnosis.confusion, place),
        _detections(diagnosis.confusion, place),
        _less_found_size(diagnosis.breakdown[place]),
        _less_found_in_a_crowd(diagnosis.breakdown[place]),
    ]
    if diagnosis.calibration is not None:
        own = diagnosis.calibration.classes[place]
        if own.detections >= FEWEST_DETECTIONS:
            found.append(f"{own.verdict} (ECE {percent(own.ECE)})")
    return [sentence for sentence in found if sentence]


def in_common(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """What concerns all classes, as (label, text)."""
    found = []
    names, matrix = diagnosis.confusion.names, diagnosis.confusion.matrix
    classes = range(len(names) - 1)
    mixed = ((row, column) for row in classes for column in classes if row != column and matrix[row][column])
    pairs = sorted((-matrix[row][column], row, column) for row, column in mixed)
    taken = [f"{names[row]} for {names[column]} ({-count:,})" for count, row, column in pairs[:PAIRS_NAMED]]
    found.append(("Confused", "; ".join(taken) or "no class is taken for another"))
    nothing, missing = sum(matrix[-1]), sum(row[-1] for row in matrix)
    objects = sum(sum(row) for row in matrix[:-1])
    text = f"{plural(nothing, 'detection')} without an object, {missing:,} of {plural(objects, 'object')} without one"
    found.append(("Background", f"{text}, from each class's threshold on"))
    if no_objects := diagnosis.errors.false_positives_without_objects:
        count, name = max((sum(row.counts.values()), row.name) for row in diagnosis.errors.classes if not row.n_val)
        text = f"{plural(no_objects, 'detection')} of classes without objects, the most of {name} ({count:,})"
        found.append(("Not in AP", text))
    if diagnosis.calibration is None:
        found.append(("Calibration", f"not measured: {diagnosis.uncalibrated}"))
    else:
        overall = diagnosis.calibration.overall
        ece = f" (ECE {percent(overall.ECE)}, scores from {LEAST_SCORE} on)"
        found.append(("Calibration", overall.verdict + ece * (overall.detections >= FEWEST_DETECTIONS)))
    return found


# ------------------------------------------------------------------------------------------------------------ the table


def _print_costs(diagnosis: Diagnosis, classes: Sequence[ClassAp], console: Console | Plain) -> None:
    errors = {row.category_id: row for row in diagnosis.errors.classes}
    rows = [errors[entry.category_id] for entry in classes]
    columns = [Column("class", [*(row.name for row in rows), "all (mean)"], left=True, style="bold")]
    for kind, (title, meaning) in TITLES.items():
        cells = [_points(row.gains[kind]) for row in (*rows, diagnosis.errors)]
        columns.append(Column(title, cells, rank=RARELY_DEAR.get(kind, 0), note=f"{title}: {meaning}"))
    if diagnosis.calibration is not None:
        of = {row.category_id: row.ECE for row in diagnosis.calibration.classes}
        cells = [*(percent(of[entry.category_id]) for entry in classes), percent(diagnosis.calibration.overall.ECE)]
        note = "ECE: distance of the scores from the share that is right, in bins (last row: of all detections)"
        columns.append(Column("ECE", cells, rank=1, note=note))
    print_line(console, ("AP50 that each kind of error costs", "bold"))
    print_table(console, columns, "x100; each is what putting that kind alone right would add: they do not add up")


def _points(gain: float | None) -> str:
    return "-" if gain is None else f"{round(100 * gain, 1) + 0.0:.1f}"  # + 0.0: no -0.0


# ------------------------------------------------------------------------------------------------------------ sentences


def _lacks(entry: ClassAp) -> float:
    """The AP50 between a class and 1."""
    return round(1 - entry.AP50, 9)  # COCOeval adds 2e-16 to a count, so that one object that is found gives no 1


def _costs(errors: ClassErrors, entry: ClassAp) -> str:
    lacks = _lacks(entry)
    if not lacks:
        return ""
    shares = {kind: gain / lacks for kind, gain in errors.gains.items() if gain >= LEAST_SHARE * lacks}
    dearest = sorted(shares, key=lambda kind: -shares[kind])[:COSTS_NAMED]
    costs = "; ".join(f"{percent(shares[kind], 0)} % is {_in_words(kind, errors)}" for kind in dearest)
    none = f"no kind of error alone is {100 * LEAST_SHARE:.0f} %"
    return f"of the {percent(lacks)} points of AP50 that it lacks, counted at any score, {costs or none}"


def _in_words(kind: str, errors: ClassErrors) -> str:
    """A kind of error, and how many there are, whatever their score."""
    n = errors.counts[kind]
    if kind == "missed":
        return f"missed objects ({n:,} of {errors.n_val:,})"
    if kind == "classification" and not n:
        return "the wrong class (its objects under other names)"
    words = {
        "classification": "the wrong class ({} on other classes' objects, or its own under other names)",
        "localisation": "loose boxes ({} with an IoU of 0.1 to 0.5)",
        "both": "wrong class and place at once ({})",
        "duplicate": "objects found twice ({})",
        "background": "the background ({} on no object)",
    }
    return words[kind].format(plural(n, "detection"))


def _objects(confusion: Confusion, place: int) -> str:
    """What the objects of a class are called."""
    row = confusion.matrix[place]
    others = _other_classes(confusion.names, row, place, "called ", "called otherwise")
    parts = [f"{row[place]:,} of {plural(sum(row), 'object')} found", *others]
    if row[-1]:
        parts.append(f"{row[-1]:,} not found")
    return f"from score {confusion.thresholds[place]:.3f} on: {', '.join(parts)}"


def _detections(confusion: Confusion, place: int) -> str:
    """What the detections of a class are."""
    column = [row[place] for row in confusion.matrix]
    if not sum(column):
        return ""
    parts = [f"{column[place]:,} right", *_other_classes(confusion.names, column, place, "on ", "on other classes")]
    if column[-1]:
        parts.append(f"{column[-1]:,} on nothing or on an object found already")
    return f"of its {plural(sum(column), 'detection')} from there on: {', '.join(parts)}"


def _other_classes(names: Sequence[str], counts: Sequence[int], own: int, verb: str, otherwise: str) -> list[str]:
    """The other class with most, and the rest together."""
    others = {place: n for place, n in enumerate(counts[:-1]) if n and place != own}
    if not others:
        return []
    most = max(others, key=lambda place: others[place])
    rest = sum(others.values()) - others[most]
    return [f"{others[most]:,} {verb}{names[most]}", *([f"{rest:,} {otherwise}"] if rest else [])]


def _less_found_size(breakdown: ClassBreakdown) -> str:
    total = Share(sum(s.objects for s in breakdown.sizes.values()), sum(s.found for s in breakdown.sizes.values()))
    gaps = {}
    for name, share in breakdown.sizes.items():
        others = Share(total.objects - share.objects, total.found - share.found)
        gaps[_gap(share, others)] = (name, share, others)
    name, share, others = gaps[max(gaps)]
    return _less_found(f"{name} objects", share, others)


def _less_found_in_a_crowd(breakdown: ClassBreakdown) -> str:
    what = f"objects that overlap another (IoU of {CROWDED_IOU} or more)"
    return _less_found(what, breakdown.crowded, breakdown.alone)


def _less_found(what: str, share: Share, others: Share) -> str:
    if _gap(share, others) < RECALL_GAP:
        return ""
    rest = f"the others {others.found:,} of {others.objects:,}"
    return f"{what} are found less: {share.found:,} of {share.objects:,}, {rest}"


def _gap(share: Share, others: Share) -> float:
    """How far the recall of a kind lies below that of the others; 0 where there are too few of either."""
    if min(share.objects, others.objects) < FEWEST_OF_A_KIND:
        return 0.0
    return others.found / others.objects - share.found / share.objects
