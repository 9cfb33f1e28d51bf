"""What training and evaluation say while they work, on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.render.console import make_console, print_line

BAR_CELLS = 20
WIDE = 110  # screen cells from which on the bar shows the two losses apart
CLASSES_SHOWN = 6


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class TrainingDisplay:
    """Tells a run's story on stderr and, with times, in train.log. Fits loop.Display."""

    def __init__(self, folder: Path, append: bool) -> None:
        self.folder, self.mode = folder, "a" if append else "w"
        self.stepped_once = False
        self.console = make_console(stderr=True)

    def __enter__(self) -> TrainingDisplay:
        self.file = (self.folder / "train.log").open(self.mode, encoding="utf-8", errors="backslashreplace")
        self.bar = None
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(BAR_CELLS),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("step", total=None, state="")
            self.bar.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
        if isinstance(error, FocalError):
            self._log(f"error: {error.message}")
            self._log(f"hint: {error.hint}")
        self.file.close()

    def note(self, text: str) -> None:
        self._write(text)

    def started(
        self, setup: Any, train_set: Dataset, val_set: Dataset, device: str, base_lr: float, base_batch: int
    ) -> None:
        """What will run, on what, and where the results go.

        Args:
            base_lr, base_batch: the recipe's learning rate and the batch that it is for; setup holds the scaled one.
        """
        size, schedule, objective = setup.size, setup.schedule, setup.objective
        scaled = f" ({base_lr:g} at a batch of {base_batch}, scaled)" if setup.batch_size != base_batch else ""
        names = [name for name, n in zip(train_set.class_names, train_set.objects_per_class, strict=True) if n]
        self._field("run", f"{self.folder}")
        self._field("model", f"{setup.network.backbone}, {size.min_size} px, on {device}")
        self._field("train", f"{_pictures(train_set)}  {train_set.path}")
        self._field("val", f"{_pictures(val_set)}  {val_set.path}")
        if val_set.sha256 == train_set.sha256:
            self._write("warning: val is the training set, so AP will show what was memorised, not what was learned")
        optimizer = f"{schedule.optimizer} lr {schedule.lr:g}{scaled}"
        self._field("schedule", f"{_plural(schedule.epochs, 'epoch')}, batch {setup.batch_size}, {optimizer}")
        values = ("alpha", objective.alpha), ("gamma", objective.gamma), ("prior", setup.prior)
        self._field("loss", "; ".join(f"{key} {_values(value, names)}" for key, value in values))

    def stepped(self, report: Any) -> None:
        self.stepped_once = True
        parts = f" (class {report.loss_cls:.3f}, box {report.loss_box:.3f})"
        pace = f"{report.images_per_second:.1f} images/s  {_clock(report.eta_seconds)} left"
        if report.memory_bytes is not None:
            pace += f"  {report.memory_bytes / 2**30:.1f} GiB"
        if report.skipped:
            pace += f"  {report.skipped} skipped"
        step = f"{report.step:{len(str(report.steps))}}/{report.steps}"
        text = f"epoch {report.epoch:5.1f}  step {step}  loss {report.loss:.3f}{parts}  {pace}"
        if self.bar is not None:
            state = f"loss {report.loss:.3f}{parts if self.console.width >= WIDE else ''}  {pace}"
            self.bar.update(self.task, total=report.steps, completed=report.step, state=state)
            self._log(text)
        else:
            self._write(text)

    def evaluated(self, epoch: int, metrics: dict[str, Any], best: bool) -> None:
        worst = sorted((value, name) for name, value in metrics["classes"].items() if value is not None)[:2]
        text = f"epoch {epoch:3}    AP {_x100(metrics['AP'])}  AP50 {_x100(metrics['AP50'])}"
        if len(metrics["classes"]) > 2:
            text += "  worst: " + ", ".join(f"{name} {_x100(value)}" for value, name in worst)
        self._write(text + ("  (best so far)" if best else ""))

    def finished(self, end: Any, best: str) -> None:
        if not self.stepped_once:
            self._write("nothing left to train: the run had come to its end")
        self._write(
            f"trained in {_clock(end.train_seconds)}; best {best} {_x100(end.best)} after epoch {end.best_epoch}"
        )
        if end.skipped:
            self._write(f"{_plural(end.skipped, 'step')} skipped: fp16 gradients overflowed, and the scale was lowered")
        self._write(f"next: focal eval {shlex.quote(str(self.folder))}")

    def _field(self, name: str, text: str) -> None:
        self._log(f"{name:9} {text}")
        print_line(self._console(), text, label=name, indent=10)

    def _write(self, text: str) -> None:
        self._log(text)
        print_line(self._console(), text)

    def _console(self) -> Console:
        return self.bar.console if self.bar is not None else self.console

    def _log(self, text: str) -> None:
        self.file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        self.file.flush()


def print_forecast(forecast: Any) -> None:
    """What a run will cost (training.trial.Forecast), on stdout."""
    console = make_console()
    evaluations = _plural(forecast.evaluations, "evaluation")
    memory = "n/a" if forecast.memory_bytes is None else f"{forecast.memory_bytes / 2**30:.2f} GiB"
    for name, text in (
        ("time", f"about {_clock(forecast.seconds)} in all: {_plural(forecast.steps, 'step')} and {evaluations}"),
        (
            "epoch",
            f"{_clock(forecast.seconds_per_epoch)} each, and {_clock(forecast.evaluation_seconds)} an evaluation",
        ),
        ("speed", f"{forecast.images_per_second:.1f} images/s"),
        ("memory", f"{memory} at most so far"),
        ("weights", f"{forecast.parameters:,}, of which {forecast.trainable:,} are trained"),
        ("loss", f"{forecast.loss:.3f} at the first step"),
    ):
        print_line(console, text, label=name, indent=10)


def print_look(step: int, loss: float, ap50: float) -> None:
    """How far a few pictures are learned, on stderr."""
    print_line(make_console(stderr=True), f"step {step:4}  loss {loss:8.3f}  AP50 {_x100(ap50)} on the same pictures")


def print_overfit(result: Any) -> None:
    """Whether a few pictures were learned (training.trial.Overfit), on stdout."""
    step, ap50 = result.curve[-1]
    what = f"{_plural(result.objects, 'object')} of {_plural(result.classes, 'class', 'classes')}"
    text = f"{_plural(result.pictures, 'picture')} at {result.side_px} px, {what}: AP50 {_x100(ap50)} after step {step}"
    verdict = "learned" if result.learned else "not learned"
    print_line(make_console(), f"{verdict}: {text} ({_clock(result.seconds)})")
    if not result.learned:
        hint = "look at schedule.lr, loss.alpha, loss.prior and anchors.sizes: `focal recommend` chooses them"
        if result.out_of_time:
            hint = "the time ran out, which says little: try a smaller input.min_size, or a GPU"
        print_line(make_console(stderr=True), f"hint: {hint}")


def print_notes(notes: Sequence[str]) -> None:
    """Lines beside the result: on stderr."""
    console = make_console(stderr=True)
    if console.is_terminal and notes:
        console.print()
    for note in notes:
        print_line(console, note)


def _pictures(dataset: Dataset) -> str:
    return f"{_plural(len(dataset.image_ids), 'picture')}, {_plural(int(dataset.objects_per_class.sum()), 'object')}"


def _plural(n: int, noun: str, plural: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def _x100(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _values(value: Any, names: Sequence[str]) -> str:
    """One number, or the first few classes' own."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    shown = [f"{name} {number:g}" for name, number in zip(names, value, strict=True)]
    return ", ".join(shown[:CLASSES_SHOWN]) + (f" and {len(shown) - CLASSES_SHOWN} more" * (len(shown) > CLASSES_SHOWN))


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of pictures done on a terminal; nothing elsewhere."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(BAR_CELLS), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, _: bar.update(task, completed=done)
