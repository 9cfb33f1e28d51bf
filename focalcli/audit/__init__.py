"""Dataset -> AuditReport: how imbalanced the classes are, what anchors they get, and what is wrong with the files.

Inside: report and figures (the rows), imbalance, assignment (the anchors), scale, layout, company, drift and first_loss
(what fills them), checks (the findings, one function per check), rules and terms (the pages of `focal explain`). numpy
only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from focalcli.anchors import AnchorSpec
from focalcli.audit import checks, imbalance
from focalcli.audit.assignment import Assignment, assign
from focalcli.audit.company import find_company
from focalcli.audit.drift import find_drift
from focalcli.audit.first_loss import RETINANET, LossSettings, first_loss_share
from focalcli.audit.layout import find_layout
from focalcli.audit.pairs import Pairs, find_pairs
from focalcli.audit.report import (
    SEVERITIES,
    AuditReport,
    ClassAnchors,
    ClassRow,
    Finding,
    Severity,
    SplitAnchors,
    SplitReport,
)
from focalcli.audit.rules import RULES, Rule
from focalcli.audit.scale import class_scales
from focalcli.audit.terms import TERMS, Term
from focalcli.coco import Dataset, Ints, frequency_group
from focalcli.errors import FocalError

__all__ = [
    "RULES",
    "SEVERITIES",
    "TERMS",
    "AuditReport",
    "ClassAnchors",
    "ClassRow",
    "Finding",
    "Rule",
    "Severity",
    "SplitAnchors",
    "SplitReport",
    "Term",
    "audit",
    "reference_split",
]


OF_PICTURES = (*(code for code in RULES if code.startswith("F3")), "F503")  # what only the picture files show


def audit(
    splits: Mapping[str, Dataset],
    spec: AnchorSpec,
    *,
    min_size: int,
    max_size: int,
    loss: LossSettings = RETINANET,
    check_images: bool = True,
    deep: bool = False,
    wanted: Callable[[str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Count, assign anchors and run every check.

    Args:
        splits: name -> dataset; the one whose name starts with "train", else the first, is what the others are
            compared with.
        min_size, max_size: network size in pixels, as torchvision's transform takes them.
        loss: where alpha, gamma and prior come from, and these: numbers, or by class name as in a recipe.
        check_images: also look for the pictures and read their headers (sizes, EXIF orientation), not their pixels.
        deep: also decode every picture.
        wanted: which codes to report; all without it.
        progress: called with the pictures done and their number.

    Raises:
        FocalError: no split, or a class without alpha, gamma or prior.
    """
    reference = reference_split(splits)
    train = splits[reference]
    assigned = {name: assign(dataset, spec, min_size, max_size) for name, dataset in splits.items()}
    pairs = {name: find_pairs(dataset) for name, dataset in splits.items()}
    train_images = dict(zip(train.class_names, _images_per_class(train, pairs[reference]).tolist(), strict=True))
    reports = tuple(
        _split_report(name, dataset, assigned[name], pairs[name], train_images, (min_size, max_size))
        for name, dataset in splits.items()
    )
    trained = next(report for report in reports if report.name == reference)
    drift = tuple(
        find_drift(name, dataset, train, pairs[name], pairs[reference])
        for name, dataset in splits.items()
        if name != reference
    )
    start = first_loss_share(trained.classes, loss)
    findings = []
    for name, dataset in splits.items():
        findings += checks.of_file(name, dataset)
    if check_images and (wanted is None or any(map(wanted, OF_PICTURES))):
        findings += checks.of_pictures(splits, reference, deep=deep, progress=progress)
    findings += checks.of_splits(splits, reference, drift)
    findings += checks.of_anchors(trained, train, assigned[reference])
    findings += checks.of_balance(trained, train, pairs[reference], start)
    for report in reports:
        findings += checks.of_crowding(report, splits[report.name], pairs[report.name])
    findings = [finding for finding in findings if wanted is None or wanted(finding.code)]
    findings.sort(key=lambda finding: (-SEVERITIES.index(finding.severity), finding.code))  # stable: splits keep order
    return AuditReport(
        reference=reference,
        splits=reports,
        drift=drift,
        first_loss=start,
        findings=tuple(findings),
        spec=spec,
        min_size=min_size,
        max_size=max_size,
    )


def reference_split(splits: Mapping[str, Dataset]) -> str:
    """The name of the training split: the first that starts with "train", else the first."""
    if not splits:
        raise FocalError("no split to audit", "give a COCO JSON file, or a folder with annotations/*.json")
    return next((name for name in splits if name.lower().startswith("train")), next(iter(splits)))


def _images_per_class(dataset: Dataset, pairs: Pairs) -> Ints:
    """(K,) as dataset.images_per_class, without sorting the boxes again."""
    return np.bincount(pairs.label, minlength=len(dataset.categories))


def _split_report(
    name: str,
    dataset: Dataset,
    assigned: Assignment,
    pairs: Pairs,
    train_images: Mapping[str, int],
    network: tuple[int, int],
) -> SplitReport:
    instances, images = dataset.objects_per_class, _images_per_class(dataset, pairs)
    effective = imbalance.effective_numbers(instances)
    scales = class_scales(dataset, *network)
    company, together = find_company(pairs, dataset.class_names)
    layout = find_layout(dataset, pairs, scales)
    total = int(instances.sum())
    rows = tuple(
        ClassRow(
            name=category.name,
            category_id=category.id,
            images=int(images[label]),
            instances=int(instances[label]),
            share=float(instances[label] / total) if total else None,
            per_image=float(instances[label] / images[label]) if images[label] else None,
            group=frequency_group(train_images.get(category.name, 0)),
            effective_number=float(effective[label]),
            anchors=assigned.classes[label],
            scale=scales[label],
            company=company[label],
        )
        for label, category in enumerate(dataset.categories)
    )
    return SplitReport(
        name=name,
        path=dataset.path,
        n_images=len(dataset.image_ids),
        n_empty=dict(layout.objects_per_image).get(0, 0),
        n_objects=total,
        n_crowds=int(dataset.iscrowd.sum()),
        n_present=int((instances > 0).sum()),
        most_objects_in_an_image=layout.objects_per_image[-1][0],
        head_tail=imbalance.head_tail(instances),
        gini=imbalance.gini(instances),
        entropy=imbalance.entropy(instances),
        effective_classes=imbalance.effective_classes(instances),
        anchors=assigned.split,
        layout=layout,
        together=together,
        classes=rows,
    )
