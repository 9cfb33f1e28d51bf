"""The focal loss and its gradient as one Triton kernel: logits are read once, the gradient is written once.

The counterpart of loss.loss_and_gradient for CUDA tensors, with the same result; loss.py tries it before it trusts it.
Shapes: A anchors of the whole batch, K classes. A program works on BLOCK of the A x K logits, wherever rows begin.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from focalcli.training import loss

BLOCK = 2048
LAUNCH = {"BLOCK": BLOCK, "num_warps": 8, "enable_fp_fusion": True}  # named, or triton 3.9 warns that it has a default


def loss_and_gradient(logits: Tensor, labels: Tensor, alpha: Any, gamma: Any, divisor: float) -> tuple[Tensor, Tensor]:
    """The loss in fp32, and its (A, K) derivative by the logits in loss.gradient_type; no fp64 logits."""
    logits, labels = logits.contiguous(), labels.contiguous()
    grad = torch.empty_like(logits, dtype=loss.gradient_type(logits))
    sums = torch.empty(triton.cdiv(logits.numel(), BLOCK), dtype=torch.float32, device=logits.device)
    if len(sums):
        with _on(logits):
            _loss[(len(sums),)](
                logits, labels, alpha, gamma, 1 / divisor, grad, sums, logits.numel(), CLASSES=logits.shape[1],
                ALPHA_OF_CLASS=isinstance(alpha, Tensor), GAMMA_OF_CLASS=isinstance(gamma, Tensor),
                POWER=int(gamma) if isinstance(gamma, float) and gamma in (0.0, 1.0, 2.0) else -1,
                IGNORE=loss.IGNORE, **LAUNCH,
            )  # fmt: skip
    return sums.sum(dtype=torch.float64).float(), grad


def scale(grad: Tensor, factor: Tensor) -> None:
    """grad *= factor, in fp32; where the factor, a scalar on the device, is 1, nothing is read or written."""
    if grad.numel():
        with _on(grad):
            _scale[(triton.cdiv(grad.numel(), BLOCK),)](grad, factor, grad.numel(), **LAUNCH)


def check(device: torch.device, classes: int) -> None:
    """Compile the kernels and compare them with loss.loss_and_gradient on a few blocks of random logits.

    Raises:
        RuntimeError: they disagree. Whatever else triton raises: it cannot compile them here.
    """
    generator = torch.Generator().manual_seed(0)
    rows = 3 * BLOCK // classes + 2
    logits = (torch.randn(rows, classes, generator=generator) * 8).to(device)
    labels = torch.randint(loss.IGNORE, classes, (rows,), generator=generator).to(device)
    alphas, gammas = torch.linspace(0.1, 0.9, classes).to(device), torch.linspace(0.0, 5.0, classes).to(device)
    factor = torch.tensor(3.0, device=device)
    for alpha, gamma in ((0.25, 2.0), (0.25, 1.5), (alphas, gammas)):
        found, slope = loss_and_gradient(logits, labels, alpha, gamma, 7.0)
        expected, expected_slope = loss.loss_and_gradient(logits, labels, alpha, gamma, 7.0)
        scale(slope, factor)
        same = torch.allclose(found, expected, rtol=1e-4)
        if not (same and torch.allclose(slope, 3 * expected_slope, rtol=1e-4, atol=1e-6)):
            raise RuntimeError(f"on {device} it gives {float(found)} where {float(expected)} is right")


def _on(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the device of its arguments."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


@triton.jit
def _log1p(u):
    """log(1 + u) of u in 0..1, as 2 artanh(u / (2 + u)): eight terms leave 1e-9, and small u keep all their digits."""
    t = u / (2 + u)
    q = t * t
    series = 1.0 / 13 + q * (1.0 / 15)
    series = 1.0 / 9 + q * (1.0 / 11 + q * series)
    series = 1.0 / 5 + q * (1.0 / 7 + q * series)
    return 2 * t * (1 + q * (1.0 / 3 + q * series))


@triton.jit
def _loss(
    logits, labels, alpha, gamma, factor, grad, sums, size,
    CLASSES: tl.constexpr, ALPHA_OF_CLASS: tl.constexpr, GAMMA_OF_CLASS: tl.constexpr, POWER: tl.constexpr,
    IGNORE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of logits -> their gradient, and the sum of their losses.

    Args:
        logits, grad: `size` numbers. labels: one for each row. sums: one for each block.
        alpha, gamma: numbers, or pointers to one for each class. factor: what the loss is multiplied by.
        POWER: 0, 1 or 2 where gamma is that number, else -1.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK  # 16 pictures of LVIS are more logits than int32 counts
    place = tl.arange(0, BLOCK)
    inside = place < size - start
    column = (start % CLASSES).to(tl.int32) + place
    row, column = start // CLASSES + column // CLASSES, column % CLASSES
    label = tl.load(labels + row, mask=inside, other=IGNORE)
    x = tl.load(logits + start + place, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(alpha + column, mask=inside, other=0.5) if ALPHA_OF_CLASS else alpha
    is_object = label == column
    z = tl.where(is_object, -x, x)  # a positive is a background of -x
    weight = tl.where(is_object, a, 1 - a) * factor

    u = tl.exp(-tl.abs(z))
    near = 1 / (1 + u)
    far = u * near
    s, rest = tl.where(z < 0, far, near), tl.where(z < 0, near, far)  # sigmoid(z) and 1 - sigmoid(z)
    bend = _log1p(u)
    cost = tl.maximum(z, 0.0) + bend  # softplus(z)
    if POWER == 0:
        power, g = 1.0, 0.0
    elif POWER == 1:
        power, g = s, 1.0
    elif POWER == 2:
        power, g = s * s, 2.0
    else:
        g = tl.load(gamma + column, mask=inside, other=0.0) if GAMMA_OF_CLASS else gamma
        power = tl.exp(g * (tl.minimum(z, 0.0) - bend))
    power = power * weight
    slope = power * (g * rest * cost + s)
    counts = label != IGNORE
    slope = tl.where(counts, tl.where(is_object, -slope, slope), 0.0)
    tl.store(grad + start + place, slope.to(grad.dtype.element_ty), mask=inside)
    tl.store(sums + tl.program_id(0), tl.sum(tl.where(counts, power * cost, 0.0), axis=0))


@triton.jit
def _scale(grad, factor, size, BLOCK: tl.constexpr):
    """A block of `grad` times the number that `factor` points to."""
    by = tl.load(factor)
    if by != 1.0:
        start = tl.program_id(0).to(tl.int64) * BLOCK
        place = tl.arange(0, BLOCK)
        inside = place < size - start
        here = grad + start + place
        tl.store(
            here, (tl.load(here, mask=inside, other=0.0).to(tl.float32) * by).to(grad.dtype.element_ty), mask=inside
        )
