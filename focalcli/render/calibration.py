"""What a map of scores to chances does to each class, as a table for people; ECE x100."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focalcli.evaluation import Change
from focalcli.evaluation.calibration import LEAST_SCORE
from focalcli.evaluation.held_out import PARTS
from focalcli.render.console import LABEL, Column, Plain, print_line, print_table
from focalcli.render.text import number, percent, plural

if TYPE_CHECKING:
    from rich.console import Console

    from focalcli.work.calibrating import Calibrated


def print_calibration(result: Calibrated, console: Console | Plain) -> None:
    """Each class before and after on held-out pictures, and what became of its threshold."""
    held_out = result.held_out
    own = "a map for each class" if result.wanted.per_class else "one map for all classes"
    print_line(console, (f"{result.source} on {result.dataset.path}", "bold"), f": {result.wanted.method}, {own}")
    console.print()
    changes = (*held_out.classes, held_out.overall)
    rows = result.to_rows()
    columns = [
        Column("class", [*(change.name for change in held_out.classes), "all"], left=True, style="bold"),
        Column("detections", [number(row["detections"]) for row in rows], rank=5),
        Column("score", [number(row["mean_score"], ".2f") for row in rows], rank=4, note="score: the mean of them"),
        Column("right", [number(row["precision"], ".2f") for row in rows], rank=3, note="right: the share of hits"),
        Column("ECE", [percent(row["ECE_before"]) for row in rows]),
        Column("after", [percent(row["ECE_after"]) for row in rows]),
    ]
    note = "luck: the ECE of so many detections whose scores are exactly their chances"
    columns.append(Column("luck", [percent(row["ECE_luck"]) for row in rows], rank=4, note=note))
    if held_out.rounds:
        note = f"change: of ECE, 95 %, by {plural(held_out.rounds, 'draw')} of the images"
        columns.append(Column("change", [_ends(change) for change in changes], rank=1, note=note))
    columns += [
        Column("LaECE", [percent(row["LaECE_before"]) for row in rows], rank=6),
        Column("after", [percent(row["LaECE_after"]) for row in rows], rank=6),
        Column("threshold", [number(row["threshold_before"], ".3f") for row in rows], rank=2),
        Column(
            "is now", [number(row["threshold_after"], ".3f") for row in rows], rank=2,
            note="threshold: score of the best F1, which chooses the same detections under its new value",
        ),
    ]  # fmt: skip
    print_table(console, columns, f"x100 but score, right and threshold; detections with a score from {LEAST_SCORE} on")
    console.print()
    for label, text in (
        ("Before", held_out.overall.before.verdict),
        ("After", held_out.overall.after.verdict),
        ("Judged on", _judged_on(result)),
        ("AP", f"{percent(result.raw.summary['AP'])}, AP50 {percent(result.raw.summary['AP50'])}: the same with both"),
    ):
        print_line(console, text, label=label, indent=LABEL)
    if worse := [change for change in held_out.classes if change.ECE_low is not None and change.ECE_low > 0]:
        text = ", ".join(f"{change.name} ({100 * change.ECE_change:+.1f})" for change in worse)
        print_line(console, f"{text}: the whole interval lies above 0", label="Worse", indent=LABEL)


def in_words(result: Calibrated) -> str:
    """Whether the map was kept, and what that means for the next command."""
    change = result.held_out.overall
    fall = f"ECE from {percent(change.before.ECE)} to {percent(change.after.ECE)} on pictures that it has not seen"
    if result.kept is None:
        return f"not kept: {fall}, which is no improvement; another --method may do better, --force keeps it"
    luck = "; that may be luck: the interval holds 0" if change.ECE_high is not None and change.ECE_high >= 0 else ""
    if result.kept == result.source:
        return f"kept in {result.kept}: {fall}{luck}; eval and predict use it, --raw-scores leaves it out"
    return f"written to {result.kept}: {fall}{luck}"


def _judged_on(result: Calibrated) -> str:
    held_out = result.held_out
    if held_out.share is None:
        return (
            f"{plural(held_out.n_images, 'picture')}, in {PARTS} parts, each by a map fitted to the others; "
            "the map that counts is fitted to all of them"
        )
    return f"{plural(held_out.n_images, 'picture')}; the map was fitted to the other {held_out.n_fitted:,}"


def _ends(change: Change) -> str:
    if change.ECE_low is None or change.ECE_high is None:
        return "-"
    return f"{100 * change.ECE_low:+.1f} to {100 * change.ECE_high:+.1f}"
