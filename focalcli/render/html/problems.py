"""What is wrong with a dataset in plain sentences, the worst first: the report's figures, weighed.

Every problem gets a weight in 0..1. The scales are ours, chosen so that each is about 0.5 where one should start to
worry: a head of 10 objects to 1 of the tail, 300 background anchors to a positive, a quarter of the objects out of the
anchors' reach, half of them small, half of the classes rare, a class that val measures to 25 points. Errors in the
files start at 0.5 and rise with the share of the records that they touch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from focalcli.anchors import FOREGROUND_IOU
from focalcli.audit import AuditReport, ClassRow, SplitReport
from focalcli.audit.figures import MAX_DETECTIONS
from focalcli.focal_loss import negative_share
from focalcli.render.html.wording import count, decimal, listed, percent, plural, ratio, shown

LEAST_WEIGHT = 0.25
FEW_OBJECTS = 20  # on so many a recall of 50 % is known to 20 points
DRIFT_P = 0.01  # after Holm's correction
PRIOR = 0.01  # RetinaNet's first score, Lin et al. 2017, sec. 4.1


@dataclass(frozen=True)
class Problem:
    """One sentence of the verdict.

    Attributes:
        weight: 0..1, how bad. title: a few words with the number. text: what the figures say. remedy: the next step.
        section: the id of the part of the page that shows it.
    """

    weight: float
    title: str
    text: str
    remedy: str
    section: str


def find_problems(report: AuditReport) -> list[Problem]:
    """The problems that matter, the worst first."""
    train = report.split(report.reference)
    found: list[Problem] = []
    for look in (_errors, _uneven, _background, _small, _unreached, _rare, _unmeasured, _drifted, _crowded):
        found += look(report, train)
    return sorted((each for each in found if each.weight >= LEAST_WEIGHT), key=lambda problem: -problem.weight)


def _errors(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if not errors:
        return
    records = {split.name: split.n_images + split.n_objects for split in report.splits}
    share = max(min(1.0, finding.count / max(1, records.get(finding.split, 1))) for finding in errors)
    kinds = list(dict.fromkeys(finding.title for finding in errors))
    worst = max(errors, key=lambda finding: finding.count)
    counts = [f"{plural(each.count, each.unit)} in {shown(each.split)}" for each in errors if each.title == worst.title]
    yield Problem(
        weight=0.5 + 0.5 * min(1.0, 10 * share),
        title=f"The files hold errors: {listed(kinds, 2)}",
        text=f"{f'Most are {worst.title}: ' * (len(kinds) > 1)}{listed(counts)} ({shown(worst.message)}). Errors make "
        "training or its numbers wrong, or lose data.",
        remedy=f"{worst.hint[:1].upper()}{shown(worst.hint[1:])}.",
        section="findings",
    )


def _uneven(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    rows = sorted((row for row in train.classes if row.instances), key=lambda row: -row.instances)
    if len(rows) < 2 or train.head_tail is None:
        return
    head, tail = rows[0], rows[-1]
    yield Problem(
        weight=min(1.0, math.log10(train.head_tail) / 2),
        title=f"The classes are uneven, {ratio(train.head_tail)} to 1",
        text=f"{shown(head.name)} has {count(head.instances)} of the {count(train.n_objects)} objects "
        f"({percent(head.share)} %), {shown(tail.name)} only {count(tail.instances)} ({percent(tail.share)} %), in "
        f"{plural(tail.images, 'picture')}. By their entropy the {count(len(rows))} classes are as diverse as "
        f"{decimal(train.effective_classes)} even ones.",
        remedy="Judge by the AP of each class, not by the mean; show pictures of the rare classes more often, or "
        "collect more of them.",
        section="classes",
    )


def _background(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    anchors = train.anchors
    if not anchors.background_per_positive:
        return
    even, prior = cross_entropy_share(train, 0.5), cross_entropy_share(train, PRIOR)
    yield Problem(
        weight=min(1.0, math.log10(anchors.background_per_positive) / 5),
        title=f"Background swamps the objects, {ratio(anchors.background_per_positive)} to 1",
        text=f"At {report.min_size} px only {count(anchors.positives)} anchors match an object, against "
        f"{count(anchors.negatives)} that see background. With plain cross-entropy the background carries "
        f"{_said(even)} of the first loss when scores start at 0.5, and {_said(prior)} when they start at "
        f"RetinaNet's prior of {PRIOR}.",
        remedy="Train with the focal loss and a prior; `focal recommend` chooses alpha, gamma and the prior.",
        section="background",
    )


def cross_entropy_share(train: SplitReport, score: float) -> float:
    """Share of plain cross-entropy that negatives carry, over the outputs of all classes, where every score is this."""
    rows = [row.anchors for row in train.classes if row.instances]
    positives, negatives = sum(row.positives for row in rows), sum(row.negatives for row in rows)
    return negative_share(positives, negatives, score, alpha=0.5, gamma=0)


def _said(share: float) -> str:
    return percent(share).replace(">", "over ").replace("<", "under ") + " %"


def _small(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    small = sum(row.scale.at_network[0] for row in train.classes)
    total = sum(sum(row.scale.at_network) for row in train.classes)
    if not small:
        return
    most = max(train.classes, key=lambda row: row.scale.at_network[0])
    yield Problem(
        weight=small / total,
        title=f"Many objects are small, {percent(small / total, 0)} % below 32 x 32 px",
        text=f"{count(small)} of {count(total)} objects cover less than 32 x 32 px of the network's picture "
        f"({report.min_size} px), most of them {shown(most.name)} ({count(most.scale.at_network[0])}): about four by "
        "four cells of the finest feature map, P3, or less.",
        remedy="Raise the network size, or cut the pictures into tiles; look at APs beside AP.",
        section="sizes",
    )


def _unreached(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    rows = [row for row in train.classes if row.anchors.boxes]
    total = sum(row.anchors.boxes for row in rows)
    missed = {row.name: row.anchors.boxes * (1 - row.anchors.reached) for row in rows}
    if not total or not any(missed.values()):
        return
    worst = max(rows, key=lambda row: missed[row.name])
    share = sum(missed.values()) / total
    yield Problem(
        weight=min(1.0, 2 * share),
        title=f"Anchors miss {percent(share, 0)} % of the objects",
        text=f"{count(sum(missed.values()))} of {count(total)} objects overlap no anchor with an IoU of "
        f"{FOREGROUND_IOU}; the most are {shown(worst.name)}, {percent(1 - worst.anchors.reached, 0)} % of "
        f"{count(worst.anchors.boxes)}. They train on their few best anchors only, or not at all.",
        remedy="Fit the anchor sizes to the boxes, as `focal recommend` does, or raise the network size.",
        section="background",
    )


def _rare(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    present = [row for row in train.classes if row.images]
    rare = [row for row in present if row.group == "rare"]
    if rare:
        names = listed([f"{shown(row.name)} ({row.images})" for row in sorted(rare, key=_images)])
        yield Problem(
            weight=len(rare) / len(present),
            title=f"{plural(len(rare), 'class is', 'classes are')} rare",
            text=f"{count(len(rare))} of {plural(len(present), 'class')} are in at most 10 training "
            f"pictures: {names}. So few pictures are learnt by heart.",
            remedy="Collect more pictures of them, merge them with their neighbours, or leave them out.",
            section="classes",
        )


def _images(row: ClassRow) -> int:
    return row.images


def _unmeasured(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    trained = {row.name for row in train.classes if row.instances}
    for split in report.splits:
        if split is train or not trained:
            continue
        counts = {row.name: row.instances for row in split.classes}
        scarce = sorted((counts.get(name, 0), name) for name in trained)
        least, name = scarce[0]
        scarce = [(n, other) for n, other in scarce if n <= max(least, FEW_OBJECTS)]
        points = 100 * uncertainty(least)
        where = shown(split.name)
        more = f" {count(len(scarce))} classes have at most {max(least, FEW_OBJECTS)} objects." * (len(scarce) > 1)
        yield Problem(
            weight=2 * uncertainty(least),
            title=f"{where} holds {'only ' * bool(least)}{plural(least, 'object')} of {shown(name)}",
            text=f"A recall of 50 % that is measured on them may be {points:.0f} points higher or lower in truth (95 % "
            f"interval), so the AP of the class says little.{more}"
            if least
            else f"What the network learns of the class cannot be measured there.{more}",
            remedy=f"Put more pictures of the class into {where}, or deal the pictures again, stratified by class.",
            section="splits",
        )


def uncertainty(n: int) -> float:
    """Half of the width of Wilson's 95 % interval of a share of one half measured on n objects."""
    z = 1.96
    return z * math.sqrt(n + z * z) / (2 * (n + z * z))


def _drifted(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    for drift in report.drift:
        moved = [row for row in drift.classes if row.adjusted < DRIFT_P and row.share is not None]
        if not moved or drift.distance is None:
            continue
        worst = moved[0]
        yield Problem(
            weight=min(1.0, 2 * drift.distance),
            title=f"{shown(drift.split)} differs from {shown(train.name)}",
            text=f"{percent(drift.distance, 0)} % of the objects of {shown(drift.split)} would have to change class to "
            f"match {shown(train.name)} (chance alone: {percent(drift.by_chance, 0)} %). The clearest is "
            f"{shown(worst.name)}: {percent(worst.share)} % of the objects instead of {percent(worst.train_share)} %.",
            remedy="Deal the pictures again at random, by the scene or the day they come from.",
            section="splits",
        )


def _crowded(report: AuditReport, train: SplitReport) -> Iterator[Problem]:
    if train.layout.crowded:
        yield Problem(
            weight=train.layout.crowded / train.n_images,
            title=f"{plural(train.layout.crowded, 'picture is', 'pictures are')} crowded",
            text=f"They hold more than {MAX_DETECTIONS} objects of one class, and COCO scores no more than "
            f"{MAX_DETECTIONS} detections of a class in a picture.",
            remedy="Cut the pictures into tiles.",
            section="places",
        )
