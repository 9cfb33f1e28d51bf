"""The processes of one training, one for each device: torchrun starts them, and each takes its share of every batch.

Only the first one writes and prints. What one process alone finds out (a broken picture, a signal, a full disk) is told
to all before the next gradient is summed, because a process that leaves alone lets the others wait for ever. Messages
go over gloo between the CPUs, so that none of them makes a GPU wait; gradients go over NCCL where there are GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from focalcli.errors import FocalError

PATIENCE = timedelta(hours=1)  # the others wait while the first one scores and saves
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, *values: float) -> list[float]:
        """The largest that any process gave, of each value."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def _reduced(self, values: tuple[float, ...], operation: Any) -> list[float]:
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()

    def gathered(self, part: T) -> list[T]:
        """What every process gave, by rank."""
        if self.size == 1:
            return [part]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, part)
        return parts

    def once(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, the only one that does it; its FocalError is raised in all."""
        if self.size == 1:
            return work()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = work()
            except FocalError as error:
                told[1] = error
        dist.broadcast_object_list(told)
        if told[1] is not None:
            self._leave(told[1])
        return told[0]

    def raise_any(self, error: FocalError | None) -> None:
        """Raise in every process what any of them found."""
        if self.size == 1:
            if error is not None:
                raise error
        elif self.largest(error is not None)[0]:
            self._leave(next(each for each in self.gathered(error) if each is not None))

    def _leave(self, error: FocalError) -> None:
        """The first process raises, so that the message is printed once; the others end with the same exit code."""
        if self.first:
            raise error
        raise SystemExit(int(error.exit_code))

    def align(self, model: nn.Module) -> None:
        """Give every process the first one's running statistics, which each step moves apart."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def replica(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with gradients averaged over the processes; all start from the first one's weights.

        Batch norms that learn their statistics take them from the pictures of all processes, on GPUs: torch has no such
        norm for the CPU.
        """
        if self.size == 1:
            return model
        if device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started; without it, this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:  # NCCL's is a DistError, gloo's a plain RuntimeError
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise FocalError(
            f"another process of this training is gone ({str(error).splitlines()[0]})",
            "its own message says why; the last checkpoint is there: --resume",
        ) from None
    dist.destroy_process_group()  # not after an error: it would wait for processes that are gone


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, when torchrun started one for each."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
