"""Dataset -> AuditReport: how imbalanced the classes are, what anchors they get, and what is wrong with the files.

Inside: report (the rows), imbalance (four numbers), assignment (the anchors), checks (the findings, one function per
check), rules (code -> page for `focal explain`). numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from focalcli.anchors import AnchorSpec
from focalcli.audit import checks, imbalance
from focalcli.audit.assignment import Assignment, assign
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
from focalcli.coco import Dataset, frequency_group
from focalcli.errors import FocalError

__all__ = [
    "RULES",
    "SEVERITIES",
    "AuditReport",
    "ClassAnchors",
    "ClassRow",
    "Finding",
    "Rule",
    "Severity",
    "SplitAnchors",
    "SplitReport",
    "audit",
    "reference_split",
]


def audit(
    splits: Mapping[str, Dataset], spec: AnchorSpec, *, min_size: int, max_size: int, check_images: bool = True
) -> AuditReport:
    """Count, assign anchors and run every check.

    Args:
        splits: name -> dataset; the one whose name starts with "train", else the first, is what the others are
            compared with.
        min_size, max_size: network size in pixels, as torchvision's transform takes them.
        check_images: also look for the pictures and read their headers (sizes, EXIF orientation), not their pixels.

    Raises:
        FocalError: no split.
    """
    reference = reference_split(splits)
    train = splits[reference]
    train_images = dict(zip(train.class_names, train.images_per_class.tolist(), strict=True))
    assigned = {name: assign(dataset, spec, min_size, max_size) for name, dataset in splits.items()}
    reports = tuple(_split_report(name, splits[name], assigned[name], train_images) for name in splits)
    findings = []
    for name, dataset in splits.items():
        findings += checks.of_file(name, dataset)
        if check_images:
            findings += checks.of_images(name, dataset)
    findings += checks.of_splits(splits, reference)
    trained = next(report for report in reports if report.name == reference)
    findings += checks.of_anchors(trained, train, assigned[reference].best_iou)
    findings.sort(key=lambda finding: (-SEVERITIES.index(finding.severity), finding.code))  # stable: splits keep order
    return AuditReport(reference, reports, tuple(findings), spec, min_size, max_size)


def reference_split(splits: Mapping[str, Dataset]) -> str:
    """The name of the training split: the first that starts with "train", else the first."""
    if not splits:
        raise FocalError("no split to audit", "give a COCO JSON file, or a folder with annotations/*.json")
    return next((name for name in splits if name.startswith("train")), next(iter(splits)))


def _split_report(name: str, dataset: Dataset, assigned: Assignment, train_images: Mapping[str, int]) -> SplitReport:
    instances, images = dataset.objects_per_class, dataset.images_per_class
    per_image = np.bincount(dataset.box_image[~dataset.iscrowd], minlength=len(dataset.image_ids))
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
            anchors=assigned.classes[label],
        )
        for label, category in enumerate(dataset.categories)
    )
    return SplitReport(
        name=name,
        path=dataset.path,
        n_images=len(dataset.image_ids),
        n_empty=int((per_image == 0).sum()),
        n_objects=total,
        n_crowds=int(dataset.iscrowd.sum()),
        n_present=int((instances > 0).sum()),
        most_objects_in_an_image=int(per_image.max()),
        head_tail=imbalance.head_tail(instances),
        gini=imbalance.gini(instances),
        effective_classes=imbalance.effective_classes(instances),
        anchors=assigned.split,
        classes=rows,
    )
