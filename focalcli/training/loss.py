"""Focal loss and box loss in torch, on integer labels: no one-hot tensor, closed-form gradient.

On CUDA the focal loss is one kernel (loss_kernel.py) where triton can build it; elsewhere it goes chunk by chunk.
Source: Lin et al. 2017, arXiv:1708.02002, eq. 5 and appendix B; counterpart in numpy: focal_loss.py.
Shapes: A anchors of the whole batch, K classes, P positives. Losses are sums in nats over a divisor of the caller's.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

BACKGROUND = -1
IGNORE = -2
CHUNK = 1 << 18  # logits at once for each thread: the temporaries of a chunk stay in the processor's cache
CHUNK_ELSEWHERE = 1 << 24  # on a device whose operations cost a launch each
LARGEST_STEP = math.log(1000.0 / 16)  # cap of log size ratios when boxes are decoded, as in torchvision's BoxCoder


def focal_loss(logits: Tensor, labels: Tensor, alpha: Any, gamma: Any, divisor: float = 1.0) -> Tensor:
    """Sum of the sigmoid focal loss over all anchors and classes, eq. 5, computed in fp32 (fp64 for fp64).

    Works on any logits, images or not. An anchor of class k is a positive of k and a negative of every other class.

    Args:
        logits: (A, K) raw scores of any float type.
        labels: (A,) int64, the class 0..K-1, BACKGROUND (-1) or IGNORE (-2: counts for nothing).
        alpha: weight of positives in (0, 1), a number or (K,); negatives of class k get 1 - alpha[k].
        gamma: focusing exponent >= 0, a number or (K,); 0 is alpha-weighted cross-entropy.
        divisor: > 0, what the sum is divided by, as a rule max(1, positives). Divided afterwards, the loss is the
            same, and its gradient costs another pass over (A, K).

    Returns:
        a scalar in nats.
    """
    return _FocalLoss.apply(logits, labels, _per_class(alpha, logits), _per_class(gamma, logits), divisor)


def _per_class(value: Any, logits: Tensor) -> Any:
    """A plain number where one serves all classes (a scalar power is several times cheaper), else a (K,) tensor."""
    if isinstance(value, (int, float)):
        return float(value)
    values = tuple(float(v) for v in value)
    if len(set(values)) == 1:
        return values[0]
    return _tensor_of(values, _compute_type(logits), logits.device)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _tensor_of(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K,), made once: a GPU would wait in every step for a copy of it."""
    return torch.tensor(values, dtype=dtype, device=device)


def _compute_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


class _FocalLoss(torch.autograd.Function):
    """Computes the gradient together with the loss: one (A, K) tensor is made, and scaled in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: Any, gamma: Any, divisor: float) -> Tensor:
        ctx.kernel = _kernel_for(logits)
        compute = ctx.kernel.loss_and_gradient if ctx.kernel else loss_and_gradient
        ctx.again = functools.partial(compute, alpha=alpha, gamma=gamma, divisor=divisor)
        ctx.save_for_backward(logits, labels)
        total, ctx.grad = ctx.again(logits, labels)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad, ctx.grad = ctx.grad, None
        if grad is None:  # a second pass over a graph that was retained: the first one gave its buffer away
            _, grad = ctx.again(*ctx.saved_tensors)
        if ctx.kernel:
            ctx.kernel.scale(grad, upstream)
        elif upstream.device.type != "cpu" or upstream != 1:
            grad.mul_(upstream)
        return grad.to(ctx.saved_tensors[0].dtype), None, None, None, None


def _kernel_for(logits: Tensor) -> Any:
    """The module of the kernel where it serves, else None."""
    if not logits.is_cuda or logits.dtype == torch.float64:
        return None
    return _tried_kernel(logits.device, logits.shape[1])


@functools.cache
def _tried_kernel(device: torch.device, classes: int) -> Any:
    """The module of the kernel, if it can be built here and agrees with loss_and_gradient on a small case."""
    try:
        from focalcli.training import loss_kernel

        loss_kernel.check(device, classes)
    except Exception as error:  # no triton, no C compiler for its launcher, a driver or card that it does not know
        warnings.warn(f"the loss does without its kernel, and slower: {error}", stacklevel=2)
        return None
    return loss_kernel


def gradient_type(logits: Tensor) -> torch.dtype:
    """Of the gradient until it is scaled: unscaled, that of an easy background vanishes in fp16 (TRAPS 17)."""
    return torch.float32 if logits.dtype == torch.float16 else logits.dtype


def loss_and_gradient(logits: Tensor, labels: Tensor, alpha: Any, gamma: Any, divisor: float) -> tuple[Tensor, Tensor]:
    """The loss, and its (A, K) derivative by the logits in gradient_type; arguments as for focal_loss."""
    dtype = _compute_type(logits)
    grad = torch.empty_like(logits, dtype=gradient_type(logits))
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    chunk_size = CHUNK * torch.get_num_threads() if logits.device.type == "cpu" else CHUNK_ELSEWHERE
    rows = max(1, chunk_size // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        chunk = slice(start, start + rows)
        loss = _background(logits[chunk].to(dtype), (1 - alpha) / divisor, gamma, slope=grad[chunk])
        ignored = (labels[chunk] == IGNORE).nonzero().flatten()
        loss[ignored], grad[chunk][ignored] = 0, 0
        total += loss.sum()

    anchor = (labels >= 0).nonzero().flatten()
    label = labels[anchor]
    x = logits[anchor, label].to(dtype)
    alpha_p, gamma_p = (v[label] if isinstance(v, Tensor) else v for v in (alpha, gamma))
    slope = torch.empty_like(x)
    as_background = _background(x, (1 - alpha_p) / divisor, gamma_p, slope=slope)
    as_object = _background(-x, alpha_p / divisor, gamma_p, slope=slope)
    grad[anchor, label] = slope.neg_().to(grad.dtype)
    difference = as_object.double() - as_background.double()  # in fp32 an easy positive would vanish beside it
    return (total + difference.sum()).to(dtype), grad


def _background(z: Tensor, weight: Any, gamma: Any, *, slope: Tensor) -> Tensor:
    """Loss of pushing z down, weight * s^gamma * softplus(z) with s = sigmoid(z); `slope` is given its derivative by z.

    The derivative has no power below gamma, so nothing divides by zero where the sigmoid underflows (0 < gamma < 1).
    A positive is the same with z = -x.
    """
    cost = torch.nn.functional.softplus(z, threshold=40)  # above it softplus(z) is z to the last bit, also in fp64
    s = z.sigmoid()
    factor = _power(s, gamma) * weight
    bend = (1 - s).mul_(cost).mul_(gamma).add_(s)
    torch.mul(bend, factor, out=slope)
    return cost.mul_(factor)


def _power(s: Tensor, gamma: Any) -> Tensor:
    """s^gamma; where no product does it, exp(gamma log s), which costs a third of a power."""
    if isinstance(gamma, float) and gamma in (0.0, 1.0, 2.0):
        return s ** int(gamma)
    return s.clamp(min=torch.finfo(s.dtype).tiny).log_().mul_(gamma).exp_()


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(P, 4) dx, dy, dw, dh of xyxy boxes relative to their anchors (Girshick et al. 2014), weights 1."""
    size, box_size = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + 0.5 * box_size - anchors[:, :2] - 0.5 * size) / size
    return torch.cat([shift, torch.log(box_size / size)], dim=1)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """(P, 4) xyxy: the inverse of encode_boxes, log sizes capped so that an untrained head cannot overflow."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = deltas[:, :2] * size + anchors[:, :2] + 0.5 * size
    half = 0.5 * torch.exp(deltas[:, 2:].clamp(max=LARGEST_STEP)) * size
    return torch.cat([centre - half, centre + half], dim=1)


def box_loss(deltas: Tensor, anchors: Tensor, boxes: Tensor, kind: str) -> Tensor:
    """Sum of the box loss over the positives, in fp32.

    Args:
        deltas: (P, 4) what the head says for the positive anchors. anchors, boxes: (P, 4) xyxy, each with its box.
        kind: l1 (torchvision's v1), smooth_l1 (beta 1/9, as in Detectron) or giou (v2; Rezatofighi et al. 2019).
    """
    deltas = deltas.float()
    if kind == "giou":
        return generalized_box_iou_loss(decode_boxes(deltas, anchors), boxes, reduction="sum")
    target = encode_boxes(boxes, anchors)
    if kind == "smooth_l1":
        return torch.nn.functional.smooth_l1_loss(deltas, target, beta=1 / 9, reduction="sum")
    return torch.nn.functional.l1_loss(deltas, target, reduction="sum")
