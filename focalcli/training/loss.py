"""Focal loss and box loss in torch, on integer labels: no one-hot tensor, closed-form gradient.

Source: Lin et al. 2017, arXiv:1708.02002, eq. 5 and appendix B; counterpart in numpy: focal_loss.py.
Shapes: A anchors of the whole batch, K classes, P positives. Losses are sums in nats; the caller divides by positives.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

BACKGROUND = -1
IGNORE = -2
CHUNK = 1 << 18  # logits at once: the temporaries of a chunk stay in the processor's cache
LARGEST_STEP = math.log(1000.0 / 16)  # cap of log size ratios when boxes are decoded, as in torchvision's BoxCoder


def focal_loss(logits: Tensor, labels: Tensor, alpha: Any, gamma: Any) -> Tensor:
    """Sum of the sigmoid focal loss over all anchors and classes, eq. 5, computed in fp32 (fp64 for fp64).

    Works on any logits, images or not. An anchor of class k is a positive of k and a negative of every other class.

    Args:
        logits: (A, K) raw scores of any float type.
        labels: (A,) int64, the class 0..K-1, BACKGROUND (-1) or IGNORE (-2: counts for nothing).
        alpha: weight of positives in (0, 1), a number or (K,); negatives of class k get 1 - alpha[k].
        gamma: focusing exponent >= 0, a number or (K,); 0 is alpha-weighted cross-entropy.

    Returns:
        a scalar in nats. Divide by max(1, positives).
    """
    return _FocalLoss.apply(logits, labels, _per_class(alpha, logits), _per_class(gamma, logits))


def _per_class(value: Any, logits: Tensor) -> Any:
    """A plain number where one serves all classes (a scalar power is several times cheaper), else a (K,) tensor."""
    if isinstance(value, (int, float)):
        return float(value)
    values = [float(v) for v in value]
    if len(set(values)) == 1:
        return values[0]
    return torch.tensor(values, dtype=_compute_type(logits), device=logits.device)


def _compute_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _background(z: Tensor, weight: Any, gamma: Any) -> tuple[Tensor, Tensor]:
    """Loss of pushing z down, weight * s^gamma * softplus(z) with s = sigmoid(z), and its derivative by z.

    All of it from far = sigmoid(-|z|), which neither overflows nor rounds to 1: softplus(z) = max(z, 0) - log1p(-far).
    The derivative has no power below gamma, so nothing divides by zero where the sigmoid underflows (0 < gamma < 1).
    A positive is the same with z = -x.
    """
    far = z.abs().neg_().sigmoid_()
    near = 1 - far
    below = z < 0
    s, rest = torch.where(below, far, near), torch.where(below, near, far)  # sigmoid(z) and 1 - sigmoid(z)
    bend = far.neg_().log1p_().neg_()
    cost = z.clamp(min=0).add_(bend)
    factor = _power(s, z, bend, gamma) * weight
    slope = rest.mul_(cost).mul_(gamma).add_(s).mul_(factor)
    return cost.mul_(factor), slope


def _power(s: Tensor, z: Tensor, bend: Tensor, gamma: Any) -> Tensor:
    """s^gamma; where no product does it, exp(gamma log s), which costs a tenth of a power."""
    if isinstance(gamma, float) and gamma in (0.0, 1.0, 2.0):
        return s ** int(gamma)
    return z.clamp(max=0).sub_(bend).mul_(gamma).exp_()


class _FocalLoss(torch.autograd.Function):
    """Computes the gradient together with the loss, chunk by chunk: one (A, K) tensor is made, and scaled in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: Any, gamma: Any) -> Tensor:
        total, ctx.grad = _loss_and_gradient(logits, labels, alpha, gamma)
        ctx.save_for_backward(logits, labels)
        ctx.alpha, ctx.gamma = alpha, gamma
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        grad, ctx.grad = ctx.grad, None
        if grad is None:  # a second pass over a graph that was retained: the first one gave its buffer away
            _, grad = _loss_and_gradient(*ctx.saved_tensors, ctx.alpha, ctx.gamma)
        return grad.mul_(upstream.to(grad.dtype)), None, None, None


def _loss_and_gradient(logits: Tensor, labels: Tensor, alpha: Any, gamma: Any) -> tuple[Tensor, Tensor]:
    """The summed loss, and its (A, K) derivative by the logits, in their type."""
    dtype = _compute_type(logits)
    grad = torch.empty_like(logits)
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    rows = max(1, CHUNK // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        chunk = slice(start, start + rows)
        loss, slope = _background(logits[chunk].to(dtype), 1 - alpha, gamma)
        ignored = (labels[chunk] == IGNORE).nonzero().flatten()
        loss[ignored], slope[ignored] = 0, 0
        grad[chunk] = slope
        total += loss.sum(dtype=torch.float64)

    anchor = (labels >= 0).nonzero().flatten()
    label = labels[anchor]
    x = logits[anchor, label].to(dtype)
    alpha_p, gamma_p = (v[label] if isinstance(v, Tensor) else v for v in (alpha, gamma))
    as_background, _ = _background(x, 1 - alpha_p, gamma_p)
    as_object, slope = _background(-x, alpha_p, gamma_p)
    grad[anchor, label] = (-slope).to(grad.dtype)
    difference = as_object.double() - as_background.double()  # in fp32 an easy positive would vanish beside it
    return (total + difference.sum()).to(dtype), grad


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
