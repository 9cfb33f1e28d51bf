"""Time the focal loss on a GPU as a markdown table: the kernel, torchvision's function, the bytes that have to move.

    python tests/bench/gpu_loss.py

Forward and backward of 2 x 200k anchors x 80 classes. The bound is the time to read the logits and to write a gradient
of their size at the bandwidth that a copy of 1 GiB reaches here. torchvision's targets are one-hot, built in the timed
part, as its RetinaNet builds them. Before anything is timed, both must give the same numbers.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Callable
from datetime import date
from functools import partial

import torch
from torchvision.ops import sigmoid_focal_loss

from focalcli.training.loss import BACKGROUND, IGNORE, focal_loss

ROUNDS = 50
POSITIVES = 400


def milliseconds(work: Callable[[], object]) -> float:
    """Median over ROUNDS, by the device's own clock."""
    times = []
    for number in range(ROUNDS + 5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if number >= 5:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_bytes_per_ms() -> float:
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source))


def case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, K) logits of a young network, and labels with POSITIVES positives and 200 ignored anchors."""
    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn(400_000, 80, generator=generator, device="cuda").sub_(4.6).to(dtype)
    labels = torch.full((400_000,), BACKGROUND, device="cuda")
    chosen = torch.randperm(400_000, generator=generator, device="cuda")[: POSITIVES + 200]
    labels[chosen[:POSITIVES]] = torch.randint(0, 80, (POSITIVES,), generator=generator, device="cuda")
    labels[chosen[POSITIVES:]] = IGNORE
    return logits.requires_grad_(), labels


def ours(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits.grad = None
    loss = focal_loss(logits, labels, 0.25, 2.0, POSITIVES)
    loss.backward()
    return loss


def theirs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits.grad = None
    target = torch.zeros_like(logits)
    positive = labels >= 0
    target[positive, labels[positive]] = 1.0
    kept = labels != IGNORE
    loss = sigmoid_focal_loss(logits[kept].float(), target[kept].float(), 0.25, 2.0, reduction="sum") / POSITIVES
    loss.backward()
    return loss


def extra_mb(way: Callable, logits: torch.Tensor, labels: torch.Tensor) -> float:
    logits.grad = None
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    way(logits, labels)
    return (torch.cuda.max_memory_allocated() - held) / 1e6


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: no CUDA device")
    warnings.simplefilter("error")  # the loss warns when it does without its kernel
    bandwidth = copy_bytes_per_ms()
    name = torch.cuda.get_device_name()
    print(f"{date.today()}, {name}, torch {torch.__version__}, copies {bandwidth / 1e6:,.0f} GB/s; {ROUNDS} rounds\n")
    print("| logits | ours, ms | torchvision, ms | ratio | bound, ms | bound / ours | extra MB, both | agreement |")
    print("|---|---|---|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        logits, labels = case(dtype)
        found, expected = ours(logits, labels).item(), theirs(logits, labels).item()
        mine, other = (milliseconds(partial(way, logits, labels)) for way in (ours, theirs))
        bound = 2 * logits.numel() * logits.element_size() / bandwidth
        memory = " / ".join(f"{extra_mb(way, logits, labels):,.0f}" for way in (ours, theirs))
        cells = [f"{mine:.3f}", f"{other:.3f}", f"{other / mine:.1f}", f"{bound:.3f}", f"{bound / mine:.2f}", memory]
        cells = [str(dtype).removeprefix("torch."), *cells, f"{abs(found / expected - 1):.0e}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
