"""Detectors against the first one: a table for each pair, the classes by evidence, and which differences are real.

Figures are x100; a difference of two of them is in points.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from focalcli.evaluation import BY_CHANCE, FEWEST_IMAGES, ClassDifference, Comparison, Comparisons, Difference, Metric
from focalcli.render.console import LABEL, Column, Plain, make_console, print_line, print_table
from focalcli.render.text import number, percent, plural, visible

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 40  # json and csv have all
NAMED = 6


def comparison_text(format: str, result: Comparisons, metric: Metric, notes: Sequence[str]) -> str:
    """The whole output of `focal compare --format` (table, json, csv or markdown), which ends in a line break."""
    if format == "json":
        from focalcli.render.to_json import json_text

        return json_text(result.to_dict())
    if format == "csv":
        from focalcli.render.to_csv import csv_text

        return csv_text(result.to_rows())
    if format == "markdown":
        return _markdown(result, metric, notes)
    file = io.StringIO()
    print_comparisons(result, metric, make_console(file=file))
    return file.getvalue()


def print_comparisons(result: Comparisons, metric: Metric, console: Console | Plain) -> None:
    """For each pair: what is compared, the classes by evidence, and what is real."""
    for place, one in enumerate(result.versus):
        if place:
            console.print()
        print_line(console, (str(one.after), "bold"), " against ", (str(one.before), "bold"), _on(result))
        console.print()
        rows = _rows(one.comparison, metric)
        names = [entry.name for entry in rows[:-1]] + ["all (mean)"]
        columns = [
            Column("class", names, left=True, style="bold"),
            Column("n_train", [*(number(result.n_train.get(entry.name)) for entry in rows[:-1]), ""], rank=3),
            Column("n_val", [number(entry.n_val) for entry in rows]),
            Column("before", [percent(entry.of(metric).before) for entry in rows], rank=1),
            Column("after", [percent(entry.of(metric).after) for entry in rows]),
            Column("difference", [_points(entry.of(metric).difference) for entry in rows]),
        ]
        note = ""
        if one.comparison.rounds:
            note = f"; interval: 95 %, by {plural(one.comparison.rounds, 'draw')} of the images for both detectors"
            columns += [
                Column("interval", [_interval(entry.of(metric)) for entry in rows], rank=2),
                Column(
                    "p",
                    [_p(entry.of(metric).adjusted) for entry in rows],
                    rank=4,
                    note="p: chance of such a difference without any, after Holm for the number of classes",
                ),
                Column("", [_verdict(entry.of(metric)) for entry in rows], left=True),
            ]
        print_table(console, columns, f"{metric} x100, - is undefined{note}")
        if hidden := len(one.comparison.classes) - len(rows) + 1:
            print_line(console, (f"{hidden:,} more classes with less evidence; --format json has all", "dim"))
        console.print()
        for label, text in _summary(one.comparison, metric):
            print_line(console, text, label=label, indent=LABEL)


def reasons(result: Comparisons, metric: Metric) -> list[str]:
    """A line for each detector that is really worse than the first; none when the exit code is 0."""
    lines = []
    for one in result.versus:
        worse = [entry for entry in _all(one.comparison) if entry.of(metric).real and entry.of(metric).difference < 0]
        if worse:
            words = ", ".join(f"{_name(entry)} {_points(entry.of(metric).difference)}" for entry in worse[:NAMED])
            more = f" and {len(worse) - NAMED:,} more" if len(worse) > NAMED else ""
            lines.append(visible(f"failed: --fail-on-drop: {one.after} is worse in {metric} (x100): {words}{more}"))
    return lines


def _all(comparison: Comparison) -> Iterator[ClassDifference]:
    yield comparison.mean
    yield from comparison.classes


def _name(entry: ClassDifference) -> str:
    return "the mean" if entry.name == "all" and entry.category_id is None else repr(entry.name)


def _rows(comparison: Comparison, metric: Metric) -> list[ClassDifference]:
    """The classes with the most evidence, and the mean at the end."""
    return [*comparison.by_evidence(metric)[:MOST_ROWS], comparison.mean]


def _summary(comparison: Comparison, metric: Metric) -> list[tuple[str, str]]:
    """What is real, as (label, text)."""
    if not comparison.rounds:
        return [("Real", "not known: that takes the detections of both, as `focal eval RUN` leaves them")]
    tested = [entry for entry in comparison.classes if entry.of(metric).p_value is not None]
    untested = sum(entry.of(metric).difference is not None for entry in comparison.classes) - len(tested)
    real = [entry for entry in comparison.by_evidence(metric) if entry.of(metric).real]
    words = ", ".join(f"{entry.name} {_points(entry.of(metric).difference)}" for entry in real[:NAMED])
    more = f" and {len(real) - NAMED:,} more" if len(real) > NAMED else ""
    named = f": {words}{more}" if real else ""
    mean = comparison.mean.of(metric)
    of_mean = "undefined" if mean.difference is None else f"{_points(mean.difference)}, {_verdict(mean) or 'not real'}"
    few = f"; {untested:,} more are in too few images ({FEWEST_IMAGES - 1} or less) to tell" if untested else ""
    return [
        ("Real", f"{len(real):,} of {plural(len(tested), 'class')}{named}; the mean: {of_mean}{few}"),
        (
            "By chance",
            f"{comparison.seemingly_real(metric):,} would look real (p below {BY_CHANCE:.2f}) if each class were the "
            f"only one, where {BY_CHANCE * len(tested):.1f} do so without any difference",
        ),
        ("Not in it", "what another seed of the same training would change; for that, compare several runs of each"),
    ]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:+.1f}"  # + 0.0: no -0.0


def _interval(of: Difference) -> str:
    return "-" if of.interval is None else f"{_points(of.interval[0])} to {_points(of.interval[1])}"


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _verdict(of: Difference) -> str:
    if not of.real:
        return ""
    return "better" if of.difference > 0 else "worse"


def _on(result: Comparisons) -> str:
    return f" on {result.dataset}" if result.dataset else ""


def _markdown(result: Comparisons, metric: Metric, notes: Sequence[str]) -> str:
    from focalcli.render.eval_markdown import markdown_table
    from focalcli.render.to_markdown import code, prose

    blocks = []
    for one in result.versus:
        mean = one.comparison.mean.of(metric)
        blocks.append(f"### focal compare: {metric} {percent(mean.before)} to {percent(mean.after)}")
        on = f" on {code(result.dataset)}" if result.dataset else ""
        blocks.append(f"{code(one.after)} against {code(one.before)}{on}")
        rows = []
        for entry in _rows(one.comparison, metric):
            of = entry.of(metric)
            cells = ["**all (mean)**" if entry is one.comparison.mean else code(entry.name)]
            cells += [
                number(result.n_train.get(entry.name)),
                number(entry.n_val),
                percent(of.before),
                percent(of.after),
            ]
            rows.append([*cells, _points(of.difference), _interval(of), _p(of.adjusted), _verdict(of)])
        titles = ["class", "n_train", "n_val", "before", "after", "difference", "interval", "p", "real"]
        blocks.append(markdown_table(titles, rows))
        if hidden := len(one.comparison.classes) - len(rows) + 1:
            blocks.append(f"{hidden:,} more classes with less evidence")
        blocks.append("\n".join(f"- {label}: {prose(text)}" for label, text in _summary(one.comparison, metric)))
    if notes:
        blocks.append("\n".join(f"- {prose(note)}" for note in notes))
    return "\n\n".join(blocks) + "\n"
