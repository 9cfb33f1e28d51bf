"""3x3 convolutions on the CPU with a quarter of the products: Winograd's F(4x4, 3x3), on tables of cells.

Exact up to rounding, which in fp32 is some 3e-6 of the output's norm. Forward pass, gradient of the inputs and gradient
of the weights are each 36 products of matrices, in which a CPU's BLAS reaches its full speed.
Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, eq. 8 and sec. 4.3.
Shapes: T tiles of 4 x 4 outputs, each from a window of 6 x 6 inputs (tiles.py); C channels in, K out.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from focalcli.training.tiles import Tiles, layout, sizes_of, table_of

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # where the polynomials are evaluated, and at infinity
# with fewer, moving numbers about costs more than the products that it saves (measured, AVX2)
LEAST_CHANNELS, LEAST_TILES = 96, 64
NUMBERS_AT_ONCE = 36 * 256 * 140  # in the windows of a chunk, 5 MB in fp32: they stay in the cache


class Conv3x3(nn.Conv2d):
    """torch's convolution, with the same names and the same outputs, which goes the short way where that is shorter."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Conv3x3:
        """The same with the same parameters."""
        own = cls(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None, device="meta")
        own.weight, own.bias = conv.weight, conv.bias
        return own

    def forward(self, x: Tensor) -> Tensor:
        if not can_serve(x) or min(self.weight.shape[:2]) < LEAST_CHANNELS:
            return super().forward(x)
        sizes = sizes_of([x])
        every = layout(len(x), sizes).every
        if len(every) < LEAST_TILES:
            return super().forward(x)
        out = conv3x3(table_of([x]), self, every)
        return out[:-1].view(len(x), *sizes[0], -1).permute(0, 3, 1, 2)


def adopt(network: nn.Module) -> None:
    """Let every plain 3x3 convolution inside the network go the short way."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _is_plain(child):
                setattr(module, name, Conv3x3.of(child))


def _is_plain(conv: nn.Conv2d) -> bool:
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and conv.groups == 1 and conv.padding_mode == "zeros"


def can_serve(x: Tensor) -> bool:
    """Whether conv3x3 computes what torch would: in full precision on a CPU, and not inside of what is compiled."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def conv3x3(table: Tensor, conv: nn.Conv2d, some: Tiles) -> Tensor:
    """(R + 1, K) the convolution's outputs in the cells of the tiles; the other rows are zeros.

    Args:
        table: (R + 1, C) its inputs; the last row is zeros, as in what is returned.
    """
    return _Convolution.apply(table, conv.weight, conv.bias, some)


class _Convolution(torch.autograd.Function):
    """Transformed windows are made again in the backward pass: kept, they would take 2.25 times what the inputs do."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, weight: Tensor, bias: Tensor | None, some: Tiles) -> Tensor:
        ctx.save_for_backward(table, weight)
        ctx.some = some
        _, _, outputs = _transforms(table.dtype)
        u = _transformed_weight(weight).transpose(1, 2)
        make = table.new_empty if some.whole else table.new_zeros
        out = make(len(table), len(weight))
        for windows, cells in _chunks(some, weight):
            products = torch.bmm(_transformed_windows(table, windows), u)
            made = (outputs @ products.view(36, -1)).view(-1, len(weight))
            if bias is not None:
                made += bias
            out.index_copy_(0, cells.T.flatten(), made)
        out[-1] = 0  # cells of a tile that lie beyond its map were written there
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        table, weight = ctx.saved_tensors
        wants_table, wants_weight, wants_bias, _ = ctx.needs_input_grad
        inputs, weights, outputs = _transforms(table.dtype)
        by_table = torch.zeros_like(table) if wants_table else None
        by_bias = weight.new_zeros(len(weight)) if wants_bias else None
        by_u = weight.new_zeros(36, *weight.shape[:2]) if wants_weight else None
        u = _transformed_weight(weight) if wants_table else None
        for windows, cells in _chunks(ctx.some, weight):
            by_made = upstream.index_select(0, cells.T.flatten())
            if by_bias is not None:
                by_bias += by_made.sum(0)
            by_products = (outputs.T @ by_made.view(16, -1)).view(36, -1, len(weight))
            if by_u is not None:
                by_u.baddbmm_(by_products.transpose(1, 2), _transformed_windows(table, windows))
            if by_table is not None:
                by_windows = inputs.T @ torch.bmm(by_products, u).view(36, -1)
                by_table.index_add_(0, windows.T.flatten(), by_windows.view(-1, table.shape[1]))
        if by_table is not None:
            by_table[-1] = 0
        by_weight = None
        if by_u is not None:
            by_weight = (weights.T @ by_u.view(36, -1)).view(3, 3, *weight.shape[:2]).permute(2, 3, 0, 1)
        return by_table, by_weight, by_bias, None


def _chunks(some: Tiles, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Windows and cells, in parts of equal size: a small rest would cost as much as the weights that it reads."""
    if not len(some):
        return []
    count = -(-36 * len(some) * max(weight.shape[:2]) // NUMBERS_AT_ONCE)
    return list(zip(some.windows.chunk(count), some.cells.chunk(count), strict=True))


def _transformed_windows(table: Tensor, windows: Tensor) -> Tensor:
    """(36, T, C)."""
    inputs, _, _ = _transforms(table.dtype)
    pixels = table.index_select(0, windows.flatten()).view(-1, 36, table.shape[1])
    return torch.matmul(inputs, pixels).transpose(0, 1)


def _transformed_weight(weight: Tensor) -> Tensor:
    """(36, K, C)."""
    _, weights, _ = _transforms(weight.dtype)
    return (weights @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *weight.shape[:2])


@functools.cache
@torch.inference_mode(False)
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(36, 36) of windows, (36, 9) of weights and (16, 36) of products; each acts on rows and columns at once.

    Toom and Cook multiply two polynomials by their values at some points; Winograd's algorithm for the correlation is
    the transpose of theirs. With V the values at six points of polynomials with so many coefficients, in eq. 8
    B^T = V(6)^-T, G = V(3) and A^T = V(4)^T.
    """
    values = {n: np.vstack([np.vander(POINTS, n, increasing=True), np.eye(n)[-1]]) for n in (3, 4, 6)}
    one_way = np.linalg.inv(values[6]).T, values[3], values[4].T
    return tuple(torch.from_numpy(np.kron(each, each)).to(dtype) for each in one_way)
