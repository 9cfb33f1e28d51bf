"""An evaluation as GitHub-flavoured Markdown, for a comment on a pull request or a job's summary."""

from __future__ import annotations

from collections.abc import Sequence

from focalcli.evaluation import FEW_OBJECTS, ClassAp, Evaluation, Gate
from focalcli.render.text import TAIL_ROWS, TOP_ROWS, number, percent, plural
from focalcli.render.to_markdown import code, prose

_METRICS = ("AP", "AP50", "AP75", "AR100")


def evaluation_markdown(result: Evaluation, shown: Sequence[ClassAp], notes: Sequence[str]) -> str:
    """The means and the verdict, the classes, the gates, what makes the figures differ from what one may expect."""
    table = result.table
    verdict = ", ".join(f"{name} {percent(table.summary[name])}" for name in ("AP", "AP50"))
    if result.gates:
        failed = sum(not gate.passed for gate in result.gates)
        verdict += f"; {plural(failed, 'gate')} of {len(result.gates)} failed" if failed else "; all gates passed"
    blocks = [
        f"### focal eval: {verdict}",
        f"{code(result.source)} on {code(result.dataset.path)}: {plural(table.n_images, 'image')}, "
        f"{plural(table.n_objects, 'object')}",
        _classes(result, shown),
    ]
    if result.gates:
        blocks.append("#### Gates\n\n" + "\n".join(map(_gate, result.gates)))
    if notes:
        blocks.append("#### Notes\n\n" + "\n".join(f"- {prose(note)}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def _gate(gate: Gate) -> str:
    return f"- **{'passed' if gate.passed else 'failed'}** {code(gate.option)}: {prose(gate.message)}"


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; the first column is text, the others are numbers. The cells must be escaped."""
    ruler = ["---"] + ["---:"] * (len(titles) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ruler, *rows))


def _classes(result: Evaluation, shown: Sequence[ClassAp]) -> str:
    table = result.table
    titles = ["class", "n_train", "n_val", *_METRICS]
    if table.rounds:
        titles.insert(5, "AP50, 95 %")

    def line(entry: ClassAp) -> list[str]:
        marked = "\\*" if 0 < entry.n_val < FEW_OBJECTS else ""
        cells = [code(entry.name), number(entry.n_train), marked + number(entry.n_val)]
        cells += [percent(getattr(entry, name)) if entry.n_val else "n/a" for name in _METRICS]
        if table.rounds:
            cells.insert(5, _interval(entry.AP50_low, entry.AP50_high))
        return cells

    top, tail = list(shown), []
    if len(top) > TOP_ROWS + TAIL_ROWS + 2:  # json and csv have all
        present = [entry for entry in shown if entry.n_val]
        top, tail = present[:TOP_ROWS], present[TOP_ROWS:][-TAIL_ROWS:]
    rows = [line(entry) for entry in top]
    if folded := len(shown) - len(top) - len(tail):
        rows.append([f"({folded:,} more)"] + [""] * (len(titles) - 1))
    rows += map(line, tail)
    mean = ["**all (mean)**", "", number(table.n_objects), *(percent(table.summary[name]) for name in _METRICS)]
    if table.rounds:
        mean.insert(5, _interval(*(table.intervals["AP50"] or (None, None))))
    few = any(0 < entry.n_val < FEW_OBJECTS for entry in shown)
    note = "x100" + (f"; \\*: fewer than {FEW_OBJECTS} objects, too few for the AP to say much" if few else "")
    return f"{markdown_table(titles, [*rows, mean])}\n\n{note}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{100 * low:.1f}-{100 * high:.1f}"
