"""RetinaNet's heads: a tower of 3x3 convolutions shared by all levels, and an output convolution.

A head can be asked for its outputs at a few anchors alone. The box head's matter only at the positive anchors while
training, and at the candidates in prediction; on the CPU a tower without norms then computes only the cells that these
outputs depend on.
Shapes: N pictures, A anchors a picture, P chosen anchors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from focalcli.training import winograd
from focalcli.training.norms import GroupNorm
from focalcli.training.tiles import Layout, layout, levels_of, sizes_of, table_of


class Head(nn.Module):
    """One of RetinaNet's two heads: `depth` 3x3 convolutions and an output convolution, named `output`."""

    def __init__(self, output: str, outputs: int, *, width: int, depth: int, norm: str, per_anchor: int) -> None:
        super().__init__()
        layer = partial(GroupNorm, math.gcd(32, width)) if norm == "group" else None
        self.conv = nn.Sequential(*(Conv2dNormActivation(width, width, norm_layer=layer) for _ in range(depth)))
        self.per_anchor = per_anchor
        self.output = output
        self.norm = norm
        setattr(self, output, nn.Conv2d(width, outputs * per_anchor, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, levels: Sequence[Tensor], anchors: Tensor | None = None) -> Tensor:
        """(N, A, per_anchor) from the five feature maps, levels concatenated in the order of anchors.anchors_of; or
        (P, per_anchor) at `anchors`, (P,) indices as in Batch.positive: picture * A + anchor."""
        if self.norm == "none" and winograd.can_serve(levels[0]):
            found = layout(len(levels[0]), sizes_of(levels))
            if anchors is not None:
                return self._at(table_of(levels), anchors, found)
            if levels[0].shape[1] >= winograd.LEAST_CHANNELS and len(found.every) >= winograd.LEAST_TILES:
                table = self._tower(table_of(levels), [found.every] * len(self.conv))
                return self._everywhere(levels_of(table, len(levels[0]), sizes_of(levels)))
        every = self._everywhere([self.conv(level) for level in levels])
        return every if anchors is None else every.flatten(0, 1)[anchors]

    def _tower(self, table: Tensor, steps: list[winograd.Tiles]) -> Tensor:
        for (conv, relu), some in zip(self.conv, steps, strict=True):
            table = relu(winograd.conv3x3(table, conv, some))
        return table

    def _everywhere(self, levels: Sequence[Tensor]) -> Tensor:
        """(N, A, per_anchor) from what the tower gives."""
        maps = [getattr(self, self.output)(level).permute(0, 2, 3, 1).flatten(1, 2) for level in levels]
        return torch.cat(maps, dim=1).view(len(levels[0]), -1, self.per_anchor)

    def _at(self, table: Tensor, anchors: Tensor, found: Layout) -> Tensor:
        """(P, per_anchor) at the anchors."""
        output = getattr(self, self.output)
        per_cell = output.out_channels // self.per_anchor
        cells, cell = anchors.div(per_cell, rounding_mode="floor").unique(return_inverse=True)
        table = self._tower(table, found.towards(found.read_for(cells), len(self.conv)))
        windows = table.index_select(0, found.around(cells).flatten()).view(len(cells), 9 * output.in_channels)
        kernel = output.weight.permute(2, 3, 1, 0).reshape(-1, output.out_channels)
        outputs = torch.addmm(output.bias, windows, kernel).view(-1, self.per_anchor)
        return outputs.index_select(0, cell * per_cell + anchors % per_cell)
