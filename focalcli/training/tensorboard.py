"""metrics.jsonl said once more, for TensorBoard: `tensorboard --logdir runs` shows every run's curves together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from focalcli.errors import FocalError

ELSEWHERE = ("kind", "step", "steps", "epoch", "eta_seconds", "classes")  # of a record: no curves of their own


def require_tensorboard() -> None:
    """Raises FocalError where the package is not installed."""
    if find_spec("tensorboard") is None:
        raise FocalError(
            "--tensorboard: the package tensorboard is not installed",
            "pip install 'focal[tensorboard]'; metrics.jsonl and results.csv hold the same figures without it",
        )


class Board:
    """The event file of a run, made new from the records that count: a resumed run shows no step twice."""

    def __init__(self, folder: Path, before: Sequence[Mapping[str, Any]]) -> None:
        """before: the records that are there already. Nothing is written until the first new one."""
        self.folder, self.before, self.writer = folder, before, None

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record of metrics.jsonl.

        Raises:
            FocalError: it cannot be written.
        """
        try:
            if self.writer is None:
                self._open()
            self._add(record)
            self.writer.flush()
        except OSError as error:
            raise FocalError(
                f"{self.folder}: cannot be written ({error.strerror})", "free some space, then --resume"
            ) from None

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, for those who ask for it

        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(self.folder))
        for record in self.before:
            self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        for tag, value in _curves(record):
            self.writer.add_scalar(tag, value, record["step"])


def _curves(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(tag, value) of each figure of a record that is defined."""
    group = {"train": "train", "eval": "val"}[record["kind"]]
    values = {f"{group}/{name}": value for name, value in record.items() if name not in ELSEWHERE}
    values |= {f"AP of a class/{name}": value for name, value in record.get("classes", {}).items()}
    yield from ((tag, value) for tag, value in values.items() if value is not None)
