"""One update of the weights: the gradient of a step's pictures, however many parts and processes they are cut into.

Shapes: a step sees N pictures with P positive anchors; both losses are sums divided by P of all parts and processes, so
that an image without objects weighs no more than another (TRAPS 11) and cutting a step changes nothing but the memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focalcli.training.data import Batch
from focalcli.training.device import out_of_memory_said
from focalcli.training.ema import Ema
from focalcli.training.loss import BACKGROUND, IGNORE, box_loss, focal_loss
from focalcli.training.model import Detector
from focalcli.training.ranks import Ranks

SMALLEST_SCALE = 1.0  # fp16 gradients that overflow below it are broken, not large


@dataclass(frozen=True)
class Objective:
    """What is minimised: focal loss + box_weight * box loss. alpha and gamma: one number, or one for each class."""

    alpha: float | Sequence[float]
    gamma: float | Sequence[float]
    box: str = "l1"
    box_weight: float = 1.0


@dataclass(frozen=True)
class Update:
    """What one step came to, over all its parts and processes.

    Attributes:
        updated: False when the weights stayed as they were, because something was not finite.
        skipped: that something was an fp16 gradient, which the next step's smaller scale may save.
    """

    loss_cls: float
    loss_box: float
    grad_norm: float
    updated: bool
    skipped: bool = False


def losses(
    model: torch.nn.Module, batch: Batch, objective: Objective, autocast: torch.dtype | None, divisor: float
) -> tuple[Tensor, Tensor]:
    """(classification, box) losses of a batch, each a sum over its anchors divided by `divisor`, in fp32."""
    device = batch.images.device
    with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
        logits, deltas = model(batch.images, batch.positive)
    labels = torch.full((logits.shape[0] * logits.shape[1],), BACKGROUND, device=device)
    labels.index_fill_(0, batch.ignored, IGNORE)  # a plain assignment copies the number to the GPU and waits for it
    labels[batch.positive] = batch.positive_label
    classification = focal_loss(logits.flatten(0, 1), labels, objective.alpha, objective.gamma, divisor)
    regression = box_loss(deltas, batch.positive_anchor, batch.positive_box, objective.box) / divisor
    return classification, objective.box_weight * regression


class Stepper:
    """Takes the steps of a training."""

    def __init__(
        self, model: Detector, optimizer: torch.optim.Optimizer, objective: Objective, *, device: torch.device,
        autocast: torch.dtype | None = None, scaler: torch.amp.GradScaler | None = None, clip_norm: float = 0.0,
        ema_decay: float = 0.0, ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ) -> None:  # fmt: skip
        """scaler: for fp16, else None. clip_norm: largest norm of the gradient. clip_norm, ema_decay: 0 is off."""
        self.model, self.optimizer, self.objective, self.device = model, optimizer, objective, device
        self.autocast, self.scaler, self.clip_norm, self.ranks = autocast, scaler, clip_norm, ranks
        self.replica = ranks.replica(model, device)  # gives every process the first one's weights, which ema copies
        self.ema = Ema(model, ema_decay) if ema_decay else None
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(self, parts: Sequence[Batch], lr: float, number: int) -> Update:
        """One update from the parts of a step; the weights stay as they were when something is not finite.

        Args:
            number: of the step, from 0.

        Raises:
            FocalError: out of memory.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        (positives,) = self.ranks.sums(sum(len(part.positive) for part in parts))
        largest = max((part.images for part in parts), key=Tensor.numel)
        hint = (
            f"--resume with schedule.accumulate={2 * len(parts)} computes a step in more and smaller parts; a smaller "
            "schedule.batch_size, input.min_size or model.width needs less too, but is another run"
        )
        with out_of_memory_said(largest, hint):
            cls, box, norm = self._gradient(parts, positives)
            return self._apply(cls, box, norm, number)

    def _gradient(self, parts: Sequence[Batch], positives: float) -> tuple[float, float, float]:
        """Both losses and the norm of their gradient, which the parameters then hold, clipped."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(2, device=self.device)
        # replicas average their gradients, and the sum is wanted; an image without objects divides by 1 (TRAPS 19)
        divisor = max(1.0, positives) / self.ranks.size
        for count, part in enumerate(parts, start=1):
            summed_later = self.ranks.size > 1 and count < len(parts)
            with self.replica.no_sync() if summed_later else contextlib.nullcontext():
                pair = losses(self.replica, part.to(self.device), self.objective, self.autocast, divisor)
                loss = sum(pair)
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            total += torch.stack(pair).detach()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm or math.inf)
        cls, box, norm = torch.cat([total / self.ranks.size, norm[None]]).tolist()  # the only device sync of the step
        return *self.ranks.sums(cls, box), norm

    def _apply(self, cls: float, box: float, norm: float, number: int) -> Update:
        if not math.isfinite(cls + box):
            return Update(cls, box, norm, updated=False)
        if self.scaler is not None:
            if math.isfinite(norm):
                self.scaler.step(self.optimizer)
            self.scaler.update()
            if not math.isfinite(norm):
                return Update(cls, box, norm, updated=False, skipped=self.scaler.get_scale() >= SMALLEST_SCALE)
        elif math.isfinite(norm):
            self.optimizer.step()
        else:
            return Update(cls, box, norm, updated=False)
        if self.ema is not None:
            self.ema.update(number)
        return Update(cls, box, norm, updated=True)

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether every weight and running statistic is finite: one pass over them, cheap beside a checkpoint."""
        tensors = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        return bool(torch.stack(torch._foreach_norm(tensors)).isfinite().all())
