"""How long, how fast and with which optimizer: the learning rate of every step, and when a step is followed by more.

Sources: Lin et al. 2017, sec. 4.1 (step decay); Goyal et al. 2017, arXiv:1706.02677 (learning rate in proportion to the
batch, warm-up); Loshchilov & Hutter 2016, arXiv:1608.03983 (cosine).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from focalcli.training.model import Detector


@dataclass(frozen=True)
class Schedule:
    """How the objective is minimised. lr is already scaled to the batch.

    Attributes:
        milestones: fractions of the run (decay "step").
        accumulate: parts that a step's pictures are computed in, one after another.
        ema: decay of the moving average of the weights, 0 is off.
        patience: evaluations without a better `best` after which the run ends, 0 is never.
        best: a metric of ApTable.summary, or class:NAME for the AP of one class.
        save_minutes, save_steps: when `last` is saved besides the ends of epochs; 0 steps is never.
        keep: checkpoints to go on from that stay on the disk.
    """

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
    accumulate: int = 1
    ema: float = 0.0
    patience: int = 0
    eval_every: int = 1
    best: str = "AP"
    save_minutes: float = 5.0
    save_steps: int = 0
    keep: int = 1

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine to 0, or steps down at the milestones."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "step":
            return self.lr * warm * self.lr_gamma ** sum(step >= m * steps for m in self.milestones)
        left = max(0, step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))

    def evaluates_after(self, step: int, steps_per_epoch: int) -> bool:
        """Whether an evaluation follows so many steps: at the end of every eval_every-th epoch and of the last one."""
        epoch, inside = divmod(step, steps_per_epoch)
        return inside == 0 and (epoch % self.eval_every == 0 or epoch == self.epochs)


def make_optimizer(model: Detector, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD or AdamW; no weight decay on biases and norms, whose scale it would only fight."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # not fused=True, 4 % of a small step: a resumed run then went another way (torch 2.15, test_train.py)
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum)
