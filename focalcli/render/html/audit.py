"""AuditReport -> one HTML page to open, attach or print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

from focalcli.anchors import LEVELS
from focalcli.audit import RULES, AuditReport, ClassRow, Finding, Rule, SplitReport
from focalcli.audit.gates import GateResult
from focalcli.coco import Dataset
from focalcli.render.html import box_plots, class_plots, page
from focalcli.render.html.audit_tables import HEADERS, class_lines
from focalcli.render.html.problems import DRIFT_P, PRIOR, cross_entropy_share, find_problems
from focalcli.render.html.thumbnails import Album, Thumbnail
from focalcli.render.html.wording import label
from focalcli.render.text import finding_counts

SHOWN_ROWS = 40  # of a table, before one asks for the others
MOST_DRIFTING = 20


@dataclass(frozen=True)
class Complaint:
    """The findings of one rule and severity, with the pictures of each."""

    rule: Rule
    severity: str
    findings: tuple[tuple[Finding, tuple[Thumbnail, ...]], ...]

    @property
    def count(self) -> int:
        return sum(finding.count for finding, _ in self.findings)

    @property
    def hints(self) -> list[str]:
        return list(dict.fromkeys(finding.hint for finding, _ in self.findings))


def audit_page(report: AuditReport, splits: Mapping[str, Dataset], gates: Sequence[GateResult] = ()) -> str:
    """The audit as a self-contained page.

    Args:
        splits: the datasets that the report is about; their pictures become the thumbnails of the findings.
        gates: shown below the verdict.
    """
    train = report.split(report.reference)
    stages = _loss_stages(report, train)
    plots = {
        "bars": class_plots.class_bars(train),
        "rank": class_plots.rank_plot(train),
        "loss": class_plots.loss_stages(stages) if stages else None,
        "levels": class_plots.anchors_by_level(train),
        "sides": box_plots.side_strips(report, train),
        "aspects": box_plots.aspect_strips(report, train),
        "heat": box_plots.heat_map(train),
        "crowding": box_plots.objects_per_image(train),
        "shares": class_plots.split_shares(report, train),
    }
    return page.render(
        "audit.html.jinja",
        report=report,
        train=train,
        others=[split for split in report.splits if split is not train],
        name=dataset_name([split.path for split in report.splits]),
        today=f"{date.today():%d %B %Y}".lstrip("0"),
        hashes={name: dataset.sha256 for name, dataset in splits.items()},
        gates=gates,
        problems=find_problems(report),
        severities=finding_counts(report),
        lines=class_lines(report, train),
        headers=HEADERS,
        covered=_covered(report, train),
        anchor_sizes=", ".join(f"{size:g}" for size in report.spec.sizes),
        anchor_ratios=", ".join(f"{ratio:g}" for ratio in report.spec.ratios),
        plots=plots,
        drawn=len(class_plots.drawn(train)),
        complaints=_complaints(report, Album(splits)),
        levels=LEVELS,
        shown_rows=SHOWN_ROWS,
        most_drifting=MOST_DRIFTING,
        drift_p=DRIFT_P,
        head_name=max(train.classes, key=lambda row: row.images).name,
        tied=[row.name for row in train.classes if row.company.only_with_head],
    )


def dataset_name(paths: Sequence[Path]) -> str:
    """What one calls the dataset: its folder, or the file when it is a single JSON."""
    first = paths[0]
    if first.parent.name == "annotations" or first.name.startswith("_annotations.coco"):
        return first.parent.parent.resolve().name
    return first.name if len(paths) == 1 else first.parent.resolve().name


def _covered(report: AuditReport, train: SplitReport) -> list[tuple[ClassRow, float | None]]:
    """The classes that anchors were matched with, the most frequent first, and what negatives carry of their loss."""
    rows = zip(train.classes, report.first_loss.per_class, strict=True)
    return sorted((pair for pair in rows if pair[0].anchors.boxes), key=lambda pair: -pair[0].instances)


def _loss_stages(report: AuditReport, train: SplitReport) -> list[tuple[str, float]]:
    """What negatives carry of the first loss, from plain cross-entropy to the loss that is trained with."""
    loss = report.first_loss
    if loss.negatives is None:
        return []
    prior = loss.prior or PRIOR
    alpha, gamma = ("per class" if value is None else f"{value:g}" for value in (loss.alpha, loss.gamma))
    return [
        ("cross-entropy, every score at 0.5", cross_entropy_share(train, 0.5)),
        (f"cross-entropy, every score at the prior {prior:g}", cross_entropy_share(train, prior)),
        (f"focal loss, alpha {alpha} and gamma {gamma} ({label(loss.source, 40)})", loss.negatives),
    ]


def _complaints(report: AuditReport, album: Album) -> list[Complaint]:
    """The findings by rule, the gravest first, as the report has them."""
    groups = groupby(report.findings, key=lambda finding: (finding.code, finding.severity))
    return [
        Complaint(RULES[code], severity, tuple((finding, album.of(finding)) for finding in findings))
        for (code, severity), findings in groups
    ]
