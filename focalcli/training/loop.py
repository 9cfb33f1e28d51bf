"""The training loop: one step after another, evaluation every few epochs, checkpoints, and a clear end.

What is saved as `last` is always a place to go on from to the same weights: after a step, before the evaluation that
may follow it (which takes long enough to be killed in), and after that.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader

from focalcli.errors import ExitCode, FocalError
from focalcli.training.data import Batch, batches, worker_death_said
from focalcli.training.metrics import Meter, MetricsLog, StepReport
from focalcli.training.ranks import Ranks
from focalcli.training.sampling import BatchKeys
from focalcli.training.schedule import Schedule
from focalcli.training.step import Stepper, Update


class Display(Protocol):
    """Who is told; render/progress.py draws it."""

    def stepped(self, report: StepReport) -> None: ...
    def evaluated(self, epoch: int, metrics: dict[str, Any], best: bool) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A display for processes that leave the telling to the first one."""

    def stepped(self, report: StepReport) -> None:
        pass

    def evaluated(self, epoch: int, metrics: dict[str, Any], best: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class Progress:
    """Where a run stands; kept in the checkpoint's meta.

    Attributes:
        step: steps taken. evaluated: the step of the last evaluation.
        best, best_epoch: the best score so far. stale: evaluations since then.
        skipped: steps whose fp16 gradients overflowed.
    """

    step: int = 0
    evaluated: int = 0
    best: float = -1.0
    best_epoch: int = 0
    stale: int = 0
    skipped: int = 0
    train_seconds: float = 0.0


def fit(
    stepper: Stepper,
    loader: DataLoader,
    keys: BatchKeys,
    schedule: Schedule,
    *,
    progress: Progress,
    evaluate: Callable[[Callable[[], bool]], dict[str, Any] | None],
    save: Callable[[str, Progress], None],
    image_ids: Sequence[Any],
    log: Path,
    display: Display,
    tensorboard: bool = False,
) -> Progress:
    """Train from `progress` to the end.

    Args:
        loader: gives `schedule.accumulate` batches for each step of this process.
        evaluate: metrics of the model as it stands, names as in ApTable.summary; None when it gave up because the
            function that it is given, which it asks now and then, said to stop.
        save: writes the checkpoint `last` or `best`.
        log: the metrics.jsonl of the run; lines of what comes after `progress` are dropped first.
        tensorboard: say it to TensorBoard too.

    Returns:
        where the run ended.

    Raises:
        FocalError: loss, gradient or weights are not finite (exit code 3), a picture cannot be read, or no memory.
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
    """
    ranks, spe = stepper.ranks, keys.steps_per_epoch
    steps = spe * schedule.epochs
    keys.start = progress.step
    story = _Story(schedule, keys, progress, stepper, log, display, tensorboard)
    last_save = time.monotonic()

    def keep(name: str) -> None:
        nonlocal last_save
        if not stepper.is_finite():
            raise _diverged(log, f"at step {progress.step}: the weights that it left are not finite")
        save(name, progress)
        last_save = time.monotonic()

    # closed first, so that no worker is left to die when its death is told
    with _stop_requested() as stop, worker_death_said(), closing(_steps(loader, schedule.accumulate, ranks)) as source:
        stepper.model.train()
        while True:
            if progress.step > progress.evaluated and schedule.evaluates_after(progress.step, spe):
                figures = evaluate(lambda: bool(stop))
                stepper.model.train()
                if figures is None:
                    (signum,) = ranks.largest(stop[0] if stop else 0)
                    raise Interrupted(int(signum), progress.step, steps)
                progress = _scored(progress, _score(figures, schedule.best), progress.step // spe)
                story.evaluated(progress, figures)
                if progress.stale == 0:
                    keep("best")
                keep("last")
            if schedule.patience and progress.stale >= schedule.patience:
                display.note(f"stopped early: no better {schedule.best} in {progress.stale} evaluations")
                return progress
            if progress.step == steps:
                return progress
            lr = schedule.lr_at(progress.step, steps)
            parts = next(source)
            done = stepper.step(parts, lr, progress.step)
            if not done.updated and not done.skipped:
                raise _diverged_step(progress.step, lr, done, _image_ids(parts, image_ids, ranks), log)
            progress = story.stepped(progress, done, lr)
            is_due = time.monotonic() - last_save > 60 * schedule.save_minutes
            signum, is_due = ranks.largest(stop[0] if stop else 0, is_due)
            is_due = is_due or bool(schedule.save_steps and progress.step % schedule.save_steps == 0)
            if progress.step % spe == 0 or signum or is_due:
                keep("last")
            if signum and progress.step < steps:
                raise Interrupted(int(signum), progress.step, steps)


def _scored(progress: Progress, score: float, epoch: int) -> Progress:
    """The progress after an evaluation; stale is 0 when it was the best so far."""
    if score > progress.best:
        return replace(progress, evaluated=progress.step, best=score, best_epoch=epoch, stale=0)
    return replace(progress, evaluated=progress.step, stale=progress.stale + 1)


class _Story:
    """What became of steps and evaluations, told to the log and the display; by the first process alone."""

    def __init__(
        self, schedule: Schedule, keys: BatchKeys, progress: Progress, stepper: Stepper, log: Path, display: Display,
        tensorboard: bool,
    ) -> None:  # fmt: skip
        self.schedule, self.keys, self.stepper, self.display = schedule, keys, stepper, display
        self.log = None
        if stepper.ranks.first:
            self.log = MetricsLog(log, progress.step, progress.evaluated, tensorboard=tensorboard)
        steps = keys.steps_per_epoch * schedule.epochs
        self.meter = Meter(schedule.epochs, steps, progress.step, progress.train_seconds, keys.batch_size)

    def stepped(self, progress: Progress, done: Update, lr: float) -> Progress:
        """The progress after the step; a log line when it is time for one, and before every evaluation."""
        skipped = progress.skipped + done.skipped
        flush = self.schedule.evaluates_after(progress.step + 1, self.keys.steps_per_epoch)
        figures = done.loss_cls, done.loss_box, done.grad_norm
        report = self.meter.add(progress.step, figures, lr, skipped, self.stepper.device, flush=flush)
        if report and self.log is not None:
            self.log.write({"kind": "train", **asdict(report)})
            self.display.stepped(report)
        return replace(progress, step=progress.step + 1, skipped=skipped, train_seconds=self.meter.seconds)

    def evaluated(self, progress: Progress, figures: dict[str, Any]) -> None:
        epoch = progress.step // self.keys.steps_per_epoch
        if self.log is not None:
            self.log.write({"kind": "eval", "step": progress.step, "epoch": epoch, **figures})
        self.display.evaluated(epoch, figures, progress.stale == 0)
        self.meter.resume()


def _steps(loader: DataLoader, parts: int, ranks: Ranks) -> Iterator[list[Batch]]:
    """The parts of one step after another; what goes wrong while one process loads ends them all."""
    source = batches(loader)
    while True:
        error, found = None, []
        try:
            found = list(islice(source, parts))
        except FocalError as raised:
            error = raised
        ranks.raise_any(error)
        yield found


def _score(metrics: dict[str, Any], best: str) -> float:
    """The figure that chooses the best checkpoint; 0 where it is undefined."""
    kind, _, name = best.partition(":")
    return (metrics["classes"][name] if kind == "class" else metrics[best]) or 0.0


def _image_ids(parts: Sequence[Batch], image_ids: Sequence[Any], ranks: Ranks) -> list[Any]:
    own = [image_ids[index] for part in parts for index in part.indices.tolist()]
    return [each for ids in ranks.gathered(own) for each in ids]


def _diverged_step(step: int, lr: float, done: Update, image_ids: list[Any], log: Path) -> FocalError:
    what = (
        f"at step {step + 1}: loss {done.loss_cls + done.loss_box:g} (class {done.loss_cls:g}, box {done.loss_box:g}), "
        f"gradient norm {done.grad_norm:g}, lr {lr:g}, images {', '.join(map(str, image_ids))}"
    )
    return _diverged(log, what)


def _diverged(log: Path, what: str) -> FocalError:
    folder = log.parent / "checkpoints"
    written = any(folder.glob("*.safetensors"))
    return FocalError(
        f"training diverged {what}",
        "lower schedule.lr, lengthen schedule.warmup_steps or set schedule.clip_norm=10; "
        + (f"the last good checkpoint is in {folder}" if written else "no checkpoint was written before"),
        ExitCode.DIVERGED,
    )


class Interrupted(Exception):
    """A signal asked the run to stop; it was saved first."""

    def __init__(self, signum: int, step: int, steps: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step} of {steps}, saved")
        self.exit_code = 128 + signum


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that holds the signal once SIGINT or SIGTERM came; a second one acts at once, as usual."""
    came: list[int] = []
    before = {}

    def note(signum: int, frame: Any) -> None:
        came.append(signum)
        signal.signal(signum, before[signum])

    for signum in (signal.SIGINT, signal.SIGTERM):
        before[signum] = signal.signal(signum, note)
    try:
        yield came
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
