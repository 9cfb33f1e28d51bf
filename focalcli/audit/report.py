"""What an audit says: frozen rows, one per split and class, and the findings. `to_dict` is the JSON form.

Shares are fractions in 0..1 here and in JSON; tables show them x100 and say so. None is undefined, never -1 or NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from focalcli.anchors import LEVELS, AnchorSpec
from focalcli.audit.figures import (
    AREA_NAMES,
    ASPECT_EDGES,
    PERCENTILES,
    SIDE_EDGES,
    ClassScale,
    Company,
    Drift,
    FirstLoss,
    Layout,
    Together,
)
from focalcli.coco import Group, Id

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")  # from harmless to harmful
Unit = Literal["annotation", "image", "class", "record"]  # record: anything in the file
PLACES = 5  # ids that a finding lists; `count` says how many there are


@dataclass(frozen=True)
class Finding:
    """One rule's complaint about one split.

    Attributes:
        title: the rule's name, e.g. "box-without-area".
        message: what was found, with the numbers of this dataset, in one line.
        image_ids, annotation_ids: the first PLACES that the rule names; for classes, examples from the worst.
        count: how many of `unit` the finding is about.
        hint: the next step, in one line.
    """

    code: str
    severity: Severity
    title: str
    message: str
    split: str
    image_ids: tuple[Id, ...]
    annotation_ids: tuple[Id, ...]
    count: int
    unit: Unit
    hint: str


@dataclass(frozen=True)
class ClassAnchors:
    """What anchors one class gets.

    Attributes:
        boxes: objects in pictures of known size. positives: anchors assigned to them.
        ignored: anchors that overlap one of its boxes most, with IoU 0.4 to 0.5, and train nothing.
        negatives: anchors that push the class's score down: the background and the positives of all other classes.
        foreground: positives / negatives, the n / N of the class.
        positives_per_box: median over its boxes.
        reached: share of its boxes that overlap some anchor with IoU >= 0.5.
        rescued: boxes with positives below that, by torchvision's low-quality matches only.
        unreached: boxes without any positive anchor.
        levels: share of its positives on P3 to P7.
        cells: median, over its positives on P3 to P7, of box side / stride of the level; side = sqrt(w h) at network
            size. None on a level without positives. cells_per_side: the same over all its positives.
    """

    boxes: int
    positives: int
    ignored: int
    negatives: int
    foreground: float | None
    positives_per_box: float | None
    reached: float | None
    rescued: int
    unreached: int
    levels: tuple[float | None, ...]
    cells: tuple[float | None, ...]
    cells_per_side: float | None

    @property
    def main_level(self) -> str | None:
        """The level with most of the positives."""
        shares = [share or 0.0 for share in self.levels]
        return LEVELS[shares.index(max(shares))] if self.positives else None


@dataclass(frozen=True)
class SplitAnchors:
    """The assignment of a whole split, each picture in a batch of its own.

    Attributes:
        images: those counted. images_without_size: those left out, as the file gives no usable size.
        images_only_rescued: those with objects of which none meets an anchor at IoU 0.5; all positives of such a
            picture are low-quality matches.
        images_without_positive: those with objects of which none gets an anchor at all. Pictures without objects never
            have a positive and are counted in neither.
        positives, ignored, negatives: anchors that match an object, lie between (IoU 0.4 to 0.5), or are background.
        background_per_positive: negatives / positives.
        levels: share of all positives on P3 to P7.
        by_level: (positives, ignored, negatives) of P3 to P7.
        positives_per_image: PERCENTILES over the counted pictures, those without objects included; None without any.
    """

    images: int
    images_without_size: int
    images_only_rescued: int
    images_without_positive: int
    positives: int
    ignored: int
    negatives: int
    background_per_positive: float | None
    levels: tuple[float | None, ...]
    by_level: tuple[tuple[int, int, int], ...]
    positives_per_image: tuple[float, ...] | None


@dataclass(frozen=True)
class ClassRow:
    """One class of one split, crowds left out.

    Attributes:
        images: that hold the class. share: of the split's objects. per_image: objects per image that holds it.
        group: rare, common or frequent by its training images; None when it has none.
        effective_number: of its objects, Cui et al. 2019, beta 0.999; 0.0 without objects.
    """

    name: str
    category_id: Id
    images: int
    instances: int
    share: float | None
    per_image: float | None
    group: Group | None
    effective_number: float
    anchors: ClassAnchors
    scale: ClassScale
    company: Company


@dataclass(frozen=True)
class SplitReport:
    """One split.

    Attributes:
        n_empty: images without an object. n_crowds: regions that are neither object nor background.
        head_tail, gini, entropy, effective_classes: of the counts of the n_present classes that have objects; entropy
            in bits.
    """

    name: str
    path: Path
    n_images: int
    n_empty: int
    n_objects: int
    n_crowds: int
    n_present: int
    most_objects_in_an_image: int
    head_tail: float | None
    gini: float | None
    entropy: float | None
    effective_classes: float | None
    anchors: SplitAnchors
    layout: Layout
    together: Together
    classes: tuple[ClassRow, ...]


@dataclass(frozen=True)
class AuditReport:
    """Everything an audit found.

    Attributes:
        reference: the split that groups and findings compare with (train).
        drift: one for each other split. first_loss: of the reference.
    """

    reference: str
    splits: tuple[SplitReport, ...]
    drift: tuple[Drift, ...]
    first_loss: FirstLoss
    findings: tuple[Finding, ...]
    spec: AnchorSpec
    min_size: int
    max_size: int

    def split(self, name: str) -> SplitReport:
        return next(split for split in self.splits if split.name == name)

    def worst(self) -> Severity | None:
        """The gravest severity among the findings, None when there are none."""
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index, default=None)

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat dict for each class of each split, for CSV."""
        return [{"split": split.name, **_flat(entry)} for split in self.splits for entry in split.classes]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = {level: sum(finding.severity == level for finding in self.findings) for level in reversed(SEVERITIES)}
        return {
            "schema_version": 1,
            "kind": "audit",
            "reference": self.reference,
            "network": {
                "min_size": self.min_size,
                "max_size": self.max_size,
                "anchor_sizes": list(self.spec.sizes),
                "anchor_ratios": list(self.spec.ratios),
                "levels": list(LEVELS),
            },
            "percentiles": list(PERCENTILES),
            "side_edges": list(SIDE_EDGES),
            "aspect_edges": list(ASPECT_EDGES),
            "splits": [asdict(split) | {"path": str(split.path)} for split in self.splits],
            "drift": [asdict(drift) for drift in self.drift],
            "first_loss": asdict(self.first_loss),
            "finding_counts": counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def _flat(entry: ClassRow) -> dict[str, Any]:
    """One level of keys; the histograms of sides and aspects, which are rows themselves, only the JSON has."""
    row = asdict(entry)
    anchors, scale, company = row.pop("anchors"), row.pop("scale"), row.pop("company")
    for key in ("levels", "cells"):
        anchors |= {f"{key}_{level}": value for level, value in zip(LEVELS, anchors.pop(key), strict=True)}
    row |= {f"anchors_{key}": value for key, value in anchors.items()}
    for key in ("in_file", "at_network"):
        row |= {f"{name}_{key}": n for name, n in zip(AREA_NAMES, scale[key], strict=True)}
    for key in ("side", "side_at_network", "aspect"):
        values = scale[key] or (None,) * len(PERCENTILES)
        row |= {f"{key}_p{percent}": value for percent, value in zip(PERCENTILES, values, strict=True)}
    return row | {"at_border": scale["at_border"]} | {f"company_{key}": value for key, value in company.items()}
