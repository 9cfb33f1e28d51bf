"""A study: its runs while they train, and the verdict at the end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focalcli.render.console import LABEL, Column, Plain, make_console, print_line, print_table, rich_table
from focalcli.render.text import percent, plural

if TYPE_CHECKING:
    from rich.console import Console

    from focalcli.work.tuning import Outcome, Run, Study

LEARNED = 0.01  # the best score of a study below which there is nothing to compare
SHOWN = 12  # runs in the live table and in the leaderboard on the terminal


class TuningDisplay:
    """The news of a study on stderr: a table that changes on a terminal, lines elsewhere; all of it in tune.log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.console = folder, make_console(stderr=True)
        self.live: Any = None

    def __enter__(self) -> TuningDisplay:
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def told(self, line: str, study: Study) -> None:
        """A line of news (or none, when only figures changed), and the study as it stands."""
        if line:
            with (self.folder / "tune.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
            print_line(self.console if self.live is None else self.live.console, line)
        if self.live is not None:
            self.live.update(rich_table(self.console, columns(study.leaderboard()[:SHOWN])), refresh=True)


def columns(runs: Sequence[Run]) -> list[Column]:
    """The leaderboard's."""
    states = {"complete": "", "pruned": "cut short", "running": "running", "failed": "failed"}
    weakest = [run.worst or ("", None) for run in runs]
    return [
        Column("run", [str(run.number) for run in runs]),
        Column("what", [run.name for run in runs], left=True),
        Column("seed", [f"+{run.seed}" if run.seed else "" for run in runs], rank=3),
        Column("score", [percent(run.score) for run in runs], style="bold"),
        Column("AP50", [percent(run.figures.get("AP50")) for run in runs], rank=2),
        Column("worst class", [name for name, _ in weakest], left=True, rank=5),
        Column("its AP", [percent(value) if name else "" for name, value in weakest], rank=4),
        Column("minutes", [f"{run.seconds / 60:.1f}" if run.seconds else "" for run in runs], rank=1),
        Column("", [states.get(run.state, run.state) for run in runs], left=True),
    ]


def verdict_lines(outcome: Outcome) -> list[str]:
    """What the study shows, in sentences."""
    found, metric = outcome.verdict, outcome.metric
    if not any(run.state in ("complete", "pruned") for run in outcome.runs):
        return ["No verdict: no run has ended yet. Go on with the same command; the recipe stays as it is."]
    if max((run.score or 0.0 for run in outcome.runs), default=0.0) < LEARNED:
        return [
            f"No verdict: no run learned anything in {plural(outcome.epochs, 'epoch')}. Give each more with --epochs, "
            "in a new study (name=...); the recipe stays as it is."
        ]
    if found.noise is None:
        return [
            "No verdict: no arm was trained twice, so the noise between seeds is unknown, and the best of a search is "
            "always lucky. Go on with the same command; the recipe stays as it is."
        ]
    lines = [
        f"Two runs of one recipe differ by chance: a run's {metric} has a standard deviation of "
        f"{100 * found.noise:.1f} between seeds."
    ]
    if not found.standings:
        return [*lines, "No verdict: too few repeats. Go on with the same command; the recipe stays as it is."]
    for standing in found.standings:
        low, high = standing.interval
        word = "better" if standing.difference > 0 else "worse"
        what = word if standing.real else "a tie: inside the noise"
        lines.append(
            f"{standing.arm}: {100 * standing.difference:+.1f} {metric} against the recipe's own ({100 * low:+.1f} to "
            f"{100 * high:+.1f}; {standing.repeats} fresh seeds against {standing.own_repeats}): {what}"
        )
    lines.append(
        f"Winner: {found.winner}." if found.winner else "Winner: none. The recipe's own values are as good; it stays."
    )
    return lines


def print_outcome(outcome: Outcome, saved: Sequence[str], again: str) -> None:
    """The leaderboard and the verdict on stdout, what to do next on stderr."""
    console = make_console()
    runs = outcome.runs
    caption = f"score: {outcome.metric} x100 after {outcome.epochs} epochs; seed: added to the recipe's own"
    if len(runs) > SHOWN:
        caption += f"; {len(runs) - SHOWN} more in leaderboard.csv"
    print_table(console, columns(runs[:SHOWN]), caption)
    console.print()
    for number, line in enumerate(verdict_lines(outcome)):
        print_line(console, line, label="Verdict" if not number else "", indent=LABEL)
    print_next(outcome, saved, again, make_console(stderr=True))


def print_next(outcome: Outcome, saved: Sequence[str], again: str, console: Console | Plain) -> None:
    print_line(console, f"saved in {outcome.folder}: {', '.join(saved)}")
    if outcome.stopped:
        print_line(console, f"stopped; go on with `{again}`")
    else:
        print_line(console, f"next: focal train {shlex.quote(str(outcome.folder / 'tuned.yaml'))}")
