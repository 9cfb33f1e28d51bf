"""The training loop: one step after another, evaluation every few epochs, checkpoints, and a clear end.

Shapes: a step sees N pictures with P positive anchors; both losses are sums divided by P of the whole batch, so that an
image without objects weighs no more than another (TRAPS 11). Sources: Lin et al. 2017, sec. 4.1; Goyal et al. 2017,
arXiv:1706.02677 (learning rate in proportion to the batch, warm-up).
"""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from focalcli.errors import ExitCode, FocalError
from focalcli.training.data import Batch, BatchKeys, batches
from focalcli.training.loss import BACKGROUND, IGNORE, box_loss, focal_loss
from focalcli.training.model import Detector

LOG_EVERY_SECONDS = 10
SAVE_EVERY_SECONDS = 300  # a kill costs at most this much work


@dataclass(frozen=True)
class Objective:
    """What is minimised: focal loss + box_weight * box loss. alpha and gamma: one number, or one for each class."""

    alpha: float | Sequence[float]
    gamma: float | Sequence[float]
    box: str = "l1"
    box_weight: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """How it is minimised. lr is already scaled to the batch; milestones are fractions of the run (decay "step")."""

    epochs: int
    lr: float
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    momentum: float = 0.9
    warmup_steps: int = 0
    decay: str = "cosine"
    milestones: Sequence[float] = ()
    lr_gamma: float = 0.1
    clip_norm: float = 0.0
    eval_every: int = 1
    best: str = "AP"

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine to 0, or steps down at the milestones."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "step":
            return self.lr * warm * self.lr_gamma ** sum(step >= m * steps for m in self.milestones)
        left = max(0, step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))


@dataclass(frozen=True)
class StepReport:
    """One logged step, averaged since the last one. seconds: training time so far; eta_seconds: what is left of it."""

    step: int
    steps: int
    epoch: float
    loss: float
    loss_cls: float
    loss_box: float
    lr: float
    grad_norm: float
    images_per_second: float
    eta_seconds: float


class Display(Protocol):
    """Who is told; render/progress.py draws it."""

    def stepped(self, report: StepReport) -> None: ...
    def evaluated(self, epoch: int, metrics: dict[str, Any], best: bool) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Where a run stands; kept in the checkpoint's meta."""

    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    train_seconds: float = 0.0


def make_optimizer(model: Detector, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD or AdamW; no weight decay on biases and norms, whose scale it would only fight."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum)


def losses(
    model: Detector, batch: Batch, objective: Objective, autocast: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(classification, box) losses of a batch, each divided by max(1, positives), in fp32."""
    device = batch.images.device
    with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
        logits, deltas = model(batch.images)
    labels = torch.full((logits.shape[0] * logits.shape[1],), BACKGROUND, device=device)
    labels[batch.ignored] = IGNORE
    labels[batch.positive] = batch.positive_label
    positives = max(1, len(batch.positive))
    classification = focal_loss(logits.flatten(0, 1), labels, objective.alpha, objective.gamma) / positives
    chosen = deltas.flatten(0, 1)[batch.positive]
    regression = box_loss(chosen, batch.positive_anchor, batch.positive_box, objective.box) / positives
    return classification, objective.box_weight * regression


def fit(
    model: Detector,
    loader: DataLoader,
    keys: BatchKeys,
    objective: Objective,
    schedule: Schedule,
    *,
    device: torch.device,
    autocast: torch.dtype | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    evaluate: Callable[[], dict[str, Any]],
    save: Callable[[str, Progress], None],
    image_ids: Sequence[Any],
    log: Path,
    display: Display,
) -> Progress:
    """Train from `progress` to the end.

    Args:
        evaluate: metrics of the model as it stands, names as in ApTable.summary.
        save: writes the checkpoint `last` or `best`.
        log: the metrics.jsonl of the run; lines of steps after `progress` are dropped first.

    Returns:
        where the run ended.

    Raises:
        FocalError: loss or gradient is not finite (exit code 3), or a picture cannot be read.
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
    """
    steps = keys.steps_per_epoch * schedule.epochs
    keys.start = progress.step
    metrics = MetricsLog(log, progress.step)
    meter = _Meter(schedule, steps, progress, keys.batch_size)
    last_save = time.monotonic()
    with _stop_requested() as stop:
        model.train()
        for step, batch in zip(range(progress.step, steps), batches(loader), strict=False):
            lr = schedule.lr_at(step, steps)
            loss_cls, loss_box, norm = _step(model, batch.to(device), objective, schedule, optimizer, lr, autocast)
            if not math.isfinite(loss_cls + loss_box) or not math.isfinite(norm):
                raise _diverged(step, lr, loss_cls, loss_box, norm, [image_ids[i] for i in batch.indices.tolist()], log)
            epoch_ends = (step + 1) % keys.steps_per_epoch == 0
            epoch = (step + 1) // keys.steps_per_epoch
            evaluates = epoch_ends and (epoch % schedule.eval_every == 0 or epoch == schedule.epochs)
            if report := meter.add(step, loss_cls, loss_box, norm, lr, flush=evaluates):
                metrics.write({"kind": "train", **asdict(report)})
                display.stepped(report)
            progress = Progress(step + 1, progress.best, progress.best_epoch, meter.seconds)
            if evaluates:
                result = evaluate()
                model.train()
                score = result.get(schedule.best) or 0.0
                is_best = score > progress.best
                if is_best:
                    progress = Progress(step + 1, score, epoch, meter.seconds)
                    save("best", progress)
                metrics.write({"kind": "eval", "step": step + 1, "epoch": epoch, **result})
                display.evaluated(epoch, result, is_best)
                meter.resume()
            if epoch_ends or stop or time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                save("last", progress)
                last_save = time.monotonic()
            if stop and step + 1 < steps:
                raise Interrupted(stop[0], step + 1, steps)
    return progress


def _step(
    model: Detector, batch: Batch, objective: Objective, schedule: Schedule,
    optimizer: torch.optim.Optimizer, lr: float, autocast: torch.dtype | None,
) -> tuple[float, float, float]:  # fmt: skip
    """One update; returns both losses and the gradient norm. The weights stay as they were when one is not finite."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss_cls, loss_box = losses(model, batch, objective, autocast)
    optimizer.zero_grad(set_to_none=True)
    (loss_cls + loss_box).backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, schedule.clip_norm or math.inf)
    values = torch.stack([loss_cls.detach(), loss_box.detach(), norm]).tolist()  # the only device sync of the step
    if all(map(math.isfinite, values)):
        optimizer.step()
    return values[0], values[1], values[2]


def _diverged(step: int, lr: float, cls: float, box: float, norm: float, image_ids: list[Any], log: Path) -> FocalError:
    folder = log.parent / "checkpoints"
    written = any(folder.glob("*.safetensors"))
    return FocalError(
        f"training diverged at step {step + 1}: loss {cls + box:g} (class {cls:g}, box {box:g}), "
        f"gradient norm {norm:g}, lr {lr:g}, images {', '.join(map(str, image_ids))}",
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


class _Meter:
    """Averages between log lines, images/s and ETA from training time alone (evaluation is not counted)."""

    def __init__(self, schedule: Schedule, steps: int, progress: Progress, batch_size: int) -> None:
        self.steps, self.batch_size, self.epochs = steps, batch_size, schedule.epochs
        self.first, self.before = progress.step, progress.train_seconds
        self.seconds = progress.train_seconds
        self.sums, self.count, self.window = [0.0, 0.0, 0.0], 0, 0.0
        self.clock = time.monotonic()

    def resume(self) -> None:
        self.clock = time.monotonic()

    def add(self, step: int, cls: float, box: float, norm: float, lr: float, *, flush: bool) -> StepReport | None:
        now = time.monotonic()
        self.seconds += now - self.clock
        self.window += now - self.clock
        self.clock = now
        self.sums = [total + value for total, value in zip(self.sums, (cls, box, norm), strict=True)]
        self.count += 1
        if not flush and self.window < LOG_EVERY_SECONDS:
            return None
        cls, box, norm = (total / self.count for total in self.sums)
        speed = self.count * self.batch_size / max(self.window, 1e-9)
        per_step = (self.seconds - self.before) / (step + 1 - self.first)
        self.sums, self.count, self.window = [0.0, 0.0, 0.0], 0, 0.0
        return StepReport(
            step=step + 1, steps=self.steps, epoch=round((step + 1) / self.steps * self.epochs, 3),
            loss=cls + box, loss_cls=cls, loss_box=box, lr=lr, grad_norm=norm,
            images_per_second=speed, eta_seconds=per_step * (self.steps - step - 1),
        )  # fmt: skip


class MetricsLog:
    """metrics.jsonl: one JSON object a line, each flushed; results.csv: the same evaluations as a table."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = []
        if path.is_file() and step > 0:
            lines = (_parsed(line) for line in path.read_text(encoding="utf-8").splitlines())
            kept = [line for line in lines if line and line["step"] <= step]
        self.evaluations = [line for line in kept if line["kind"] == "eval"]
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(aside, path)

    def write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if record["kind"] == "eval":
            self.evaluations.append(record)
            self._write_table()

    def _write_table(self) -> None:
        flat = [
            {k: v for k, v in e.items() if k not in ("kind", "classes")}
            | {f"AP/{n}": v for n, v in e["classes"].items()}
            for e in self.evaluations
        ]
        names = list(dict.fromkeys(name for row in flat for name in row))
        with self.path.with_name("results.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(flat)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # the line that a kill cut short
        return None
