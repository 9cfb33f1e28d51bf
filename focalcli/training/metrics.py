"""What a run tells while it trains: figures of the logged steps, and the files metrics.jsonl and results.csv.

results.csv has a row for each evaluation, with the AP of every class in the columns AP/<class>.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from focalcli.errors import FocalError
from focalcli.files import write_whole
from focalcli.training.tensorboard import Board

LOG_EVERY_SECONDS = 10


@dataclass(frozen=True)
class StepReport:
    """One logged step, averaged since the last one.

    Attributes:
        skipped: steps of the run so far whose fp16 gradients overflowed, so that they changed nothing.
        memory_bytes: the most that was held so far, of the GPU's memory or else of this process; None when unknown.
        eta_seconds: what is left of the training, without evaluations.
    """

    step: int
    steps: int
    epoch: float
    loss: float
    loss_cls: float
    loss_box: float
    lr: float
    grad_norm: float
    skipped: int
    images_per_second: float
    memory_bytes: int | None
    eta_seconds: float


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most that was held at once: of a GPU's memory by torch, else resident by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such thing
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Meter:
    """Averages between log lines, images/s and ETA from training time alone (evaluation is not counted)."""

    def __init__(self, epochs: int, steps: int, start: int, seconds: float, batch_size: int) -> None:
        """start, seconds: where the run stands, and the training time until then."""
        self.steps, self.batch_size, self.epochs = steps, batch_size, epochs
        self.first, self.before = start, seconds
        self.seconds = seconds
        self.sums, self.count, self.window = [0.0, 0.0, 0.0], 0, 0.0
        self.clock = time.monotonic()

    def resume(self) -> None:
        self.clock = time.monotonic()

    def add(
        self, step: int, figures: tuple[float, float, float], lr: float, skipped: int, device: torch.device,
        *, flush: bool,
    ) -> StepReport | None:  # fmt: skip
        """Take in a step's class loss, box loss and gradient norm; a report when it is time for one."""
        now = time.monotonic()
        self.seconds += now - self.clock
        self.window += now - self.clock
        self.clock = now
        self.sums = [total + value for total, value in zip(self.sums, figures, strict=True)]
        self.count += 1
        if not flush and self.window < LOG_EVERY_SECONDS:
            return None
        cls, box, norm = (total / self.count for total in self.sums)
        speed = self.count * self.batch_size / max(self.window, 1e-9)
        per_step = (self.seconds - self.before) / (step + 1 - self.first)
        self.sums, self.count, self.window = [0.0, 0.0, 0.0], 0, 0.0
        return StepReport(
            step=step + 1, steps=self.steps, epoch=round((step + 1) / self.steps * self.epochs, 3),
            loss=cls + box, loss_cls=cls, loss_box=box, lr=lr, grad_norm=norm, skipped=skipped,
            images_per_second=speed, memory_bytes=peak_memory_bytes(device),
            eta_seconds=per_step * (self.steps - step - 1),
        )  # fmt: skip


class MetricsLog:
    """metrics.jsonl: one JSON object a line, each flushed; results.csv: the same evaluations as a table."""

    def __init__(self, path: Path, step: int, evaluated: int, *, tensorboard: bool = False) -> None:
        """step, evaluated: where the run stands and the last evaluation that counts; later lines are dropped.

        tensorboard: keep its event file too, in a folder of that name beside `path`.
        """
        self.path = path
        kept = []
        if path.is_file() and step > 0:
            lines = (_parsed(line) for line in path.read_text(encoding="utf-8").splitlines())
            kept = [line for line in lines if line and line["step"] <= (evaluated if line["kind"] == "eval" else step)]
        self.evaluations = [line for line in kept if line["kind"] == "eval"]
        self.board = Board(path.with_name("tensorboard"), kept) if tensorboard else None
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode(), "--runs")

    def write(self, record: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise FocalError(
                f"{self.path}: cannot be written ({error.strerror})", "free some space, then --resume"
            ) from None
        if self.board is not None:
            self.board.write(record)
        if record["kind"] == "eval":
            self.evaluations.append(record)
            self._write_table()

    def _write_table(self) -> None:
        flat = [
            {k: v for k, v in e.items() if k not in ("kind", "classes")}
            | {f"AP/{n}": v for n, v in e["classes"].items()}
            for e in self.evaluations
        ]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)
        write_whole(self.path.with_name("results.csv"), text.getvalue().encode(), "--runs")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # the line that a kill cut short
        return None
