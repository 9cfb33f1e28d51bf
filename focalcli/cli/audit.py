"""`focal audit`: figures, findings and gates, in the format that a person or a CI service reads."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from focalcli.cli.delivery import OutputOption, check_output, deliver, step_summary
from focalcli.cli.options import DatasetArgument, IgnoreOption, ImagesOption, SelectOption
from focalcli.errors import ExitCode, FocalError

if TYPE_CHECKING:
    from focalcli.anchors import AnchorSpec
    from focalcli.audit import AuditReport
    from focalcli.audit.first_loss import LossSettings
    from focalcli.audit.gates import GateResult
    from focalcli.coco import Dataset


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


class AuditFormat(str, Enum):
    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    github = "github"
    junit = "junit"
    sarif = "sarif"
    html = "html"


def audit(
    dataset: DatasetArgument,
    images: ImagesOption = None,
    min_size: Annotated[
        Optional[int], typer.Option(min=32, help="Network input: short side in px; 800 without it.")
    ] = None,
    max_size: Annotated[
        Optional[int], typer.Option(min=32, help="Network input: cap of the long side in px; 1333 without it.")
    ] = None,
    anchor_sizes: Annotated[
        Optional[str],
        typer.Option(help="Anchor sides of P3 to P7, in px at network size; 32,64,128,256,512 without it."),
    ] = None,
    recipe: Annotated[
        Optional[Path],
        typer.Option(help="Take from this recipe what these three leave open, and alpha, gamma and prior."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every picture: finds damaged, repeated ones.")] = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    fail_on: Annotated[FailOn, typer.Option(help="Exit 1 on findings of this severity or worse.")] = FailOn.error,
    max_head_tail: Annotated[
        Optional[float], typer.Option(min=1, help="Exit 1 when the largest class has more times the smallest one's.")
    ] = None,
    max_background: Annotated[
        Optional[float], typer.Option(min=0, help="Exit 1 on more background anchors for each positive one.")
    ] = None,
    min_instances: Annotated[
        Optional[int], typer.Option(min=1, help="Exit 1 when a class has fewer objects to train on.")
    ] = None,
    min_val: Annotated[
        Optional[int], typer.Option(min=1, help="Exit 1 when a trained class has fewer objects in another split.")
    ] = None,
    format: Annotated[AuditFormat, typer.Option("--format", "-f", help="How to print it.")] = AuditFormat.table,
    output: OutputOption = None,
) -> None:
    """Show how imbalanced a dataset is, and what is wrong in it.

    Classes, anchors against background, and findings with codes that `focal explain` explains.
    """
    from focalcli.audit import audit as run_audit
    from focalcli.audit import gates, selection
    from focalcli.splits import load_splits

    output = None if output == Path("-") else output
    wanted = selection.wanted(select or (), ignore or ())
    for option, limit in (("--max-head-tail", max_head_tail), ("--max-background", max_background)):
        if limit is not None and not math.isfinite(limit):
            raise FocalError(f"{option} {limit}: expected a number", f"leave {option} out for no limit")
    spec, short, long, loss = _network(recipe, anchor_sizes, min_size, max_size)
    splits = load_splits(dataset, images)
    if recipe is not None:
        loss = _by_class(recipe, loss, splits, spec, short, long)
    check_output(output, (*(split.path for split in splits.values()), recipe))
    with _progress(deep, sum(len(split.image_ids) for split in splits.values())) as progress:
        report = run_audit(
            splits, spec, min_size=short, max_size=long, loss=loss, deep=deep, wanted=wanted, progress=progress
        )
    results = gates.check(report, gates.Limits(max_head_tail, max_background, min_instances, min_val))
    if format is AuditFormat.table and output is None:
        from focalcli.render.audit_table import print_audit
        from focalcli.render.console import make_console

        print_audit(report, make_console(), results)
    else:
        from focalcli.render.formats import audit_text

        failing = None if fail_on is FailOn.never else fail_on.value
        deliver(audit_text(format.value, report, splits, results, wanted, failing), output)
    if format is AuditFormat.github:
        from focalcli.render.to_markdown import audit_markdown

        step_summary(audit_markdown(report, results))
    reasons = _reasons(report, results, fail_on)
    if format is not AuditFormat.table or output is not None:  # the table has said it on stdout
        for reason in reasons:
            print(reason, file=sys.stderr)
    if reasons:
        raise typer.Exit(ExitCode.FINDINGS)


def _network(
    recipe: Path | None, anchor_sizes: str | None, min_size: int | None, max_size: int | None
) -> tuple[AnchorSpec, int, int, LossSettings]:
    """Anchors, short and long side in px, and the loss: options first, then the recipe, then RetinaNet's."""
    from focalcli.anchors import AnchorSpec
    from focalcli.audit.first_loss import RETINANET

    spec, short, long, loss = AnchorSpec(), 800, 1333, RETINANET
    if recipe is not None:
        from focalcli import recipe as recipes

        loaded = recipes.load(recipe)
        spec = AnchorSpec(tuple(loaded.anchors.sizes), tuple(loaded.anchors.ratios))
        short, long = loaded.input.min_size, loaded.input.max_size
        loss = (str(recipe), loaded.loss.alpha, loaded.loss.gamma, loaded.loss.prior)
    if anchor_sizes is not None:
        spec = AnchorSpec(_five_sizes(anchor_sizes), spec.ratios)
    short, long = min_size or short, max_size or long
    if short > long:
        hint = "the long side is at least the short one: give both, such as --min-size 800 --max-size 1333"
        raise FocalError(f"--min-size {short} is above --max-size {long}", hint)
    return spec, short, long, loss


def _by_class(
    recipe: Path, loss: LossSettings, splits: Mapping[str, Dataset], spec: AnchorSpec, short: int, long: int
) -> LossSettings:
    """The loss with an alpha for each class where the recipe varies it by how often classes come."""
    from focalcli import recipe as recipes
    from focalcli.audit import reference_split
    from focalcli.recommend import per_class

    said = recipes.load(recipe).loss
    train = splits[reference_split(splits)]
    objects = [n for n in train.objects_per_class.tolist() if n]
    if said.alpha_by == "none" or not objects:
        return loss
    names = [name for name, n in zip(train.class_names, train.objects_per_class, strict=True) if n]
    source, alpha, gamma, prior = loss
    alpha = per_class.varied_alpha(
        per_class.by_name(alpha, names, "loss.alpha"), said.alpha_by, objects, said.beta,
        lambda: per_class.foreground_of(train, spec, short, long),
    )  # fmt: skip
    return source, dict(zip(names, alpha, strict=True)) if isinstance(alpha, list) else alpha, gamma, prior


def _five_sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    ascending = all(low < high < 1e6 for low, high in zip((0, *sizes), sizes, strict=False))  # False for NaN too
    if len(sizes) != 5 or not ascending:
        raise FocalError(
            f"--anchor-sizes {text}: expected five ascending numbers above 0",
            "one for each of P3 to P7: --anchor-sizes 32,64,128,256,512",
        )
    return sizes


@contextmanager
def _progress(deep: bool, pictures: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar while pictures are decoded."""
    if not deep:
        yield None
        return
    from focalcli.render.progress import counting

    with counting("pictures", pictures) as progress:
        yield progress


def _reasons(report: AuditReport, results: Sequence[GateResult], fail_on: FailOn) -> list[str]:
    """Why the exit code is 1, one line each; none when it is 0."""
    from focalcli.audit import SEVERITIES
    from focalcli.render.text import visible

    reasons = []
    if fail_on is not FailOn.never:
        failing = [f for f in report.findings if SEVERITIES.index(f.severity) >= SEVERITIES.index(fail_on.value)]
        if failing:
            codes = ", ".join(dict.fromkeys(finding.code for finding in failing))
            reasons.append(f"failed: findings of severity {fail_on.value} or worse: {codes}")
    reasons += [f"failed: --{gate.name} {gate.limit:g}: {visible(gate.message)}" for gate in results if not gate.passed]
    return reasons
