"""Normalisation with torchvision's names and numbers: fixed statistics in one pass, groups of a single value."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn


class FrozenBatchNorm2d(torchvision.ops.FrozenBatchNorm2d):
    """Fixed statistics: one pass over (N, C, h, w) where torchvision's takes two, and two more for the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1))


class GroupNorm(nn.GroupNorm):
    """A group may be a single value, which equals its mean and gives the bias: one picture, a level of one cell and a
    channel a group. torch's own module raises there."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
