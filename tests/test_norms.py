"""The norms say what torchvision's and torch's say, and work where torch's raise."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from focalcli.training.model import BACKBONES, build_model, place
from focalcli.training.norms import FoldedConv, FrozenBatchNorm2d, GroupNorm, fold
from focalcli.training.winograd import Conv3x3


@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_fixed_statistics_are_torchvisions(eps):
    """torchvision.ops.FrozenBatchNorm2d in float64: output, gradient, names of the state, and the order in memory."""
    ours, theirs = (kind(6, eps=eps).double() for kind in (FrozenBatchNorm2d, torchvision.ops.FrozenBatchNorm2d))
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(6, generator=generator, dtype=torch.float64) + 0.5 for name in theirs.state_dict()}
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    answers = []
    x = torch.randn(2, 6, 5, 4, generator=generator, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for norm in (ours, theirs):
        leaf = x.clone().requires_grad_()
        out = norm(leaf)
        assert out.is_contiguous(memory_format=torch.channels_last)
        (out**2).sum().backward()
        answers.append((out, leaf.grad))
    for found, wanted in zip(*answers, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_fixed_statistics_keep_fp32_beside_half_precision():
    """As in torchvision: what enters as bfloat16 leaves as fp32, so that scale and shift are not rounded."""
    x = torch.randn(1, 3, 2, 2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = FrozenBatchNorm2d(3)(x), torchvision.ops.FrozenBatchNorm2d(3)(x)
    assert found.dtype == wanted.dtype == torch.float32
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fixed_statistics_inside_the_convolutions_change_nothing(backbone):
    """torchvision's network with its own FrozenBatchNorm2d, float64: outputs, and the gradient of every weight; all of
    the backbone's norms but those behind convolutions that go Winograd's way are folded, and no name changes."""
    torch.manual_seed(0)
    model = build_model(
        backbone=backbone, num_classes=1, anchors_per_cell=1, width=8, head_depth=0, frozen_batch_norm=True
    ).double()
    body = model.backbone.body
    for norm in body.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            for name, values in norm.named_buffers():
                values.copy_(torch.rand_like(values) + (0.5 if name != "bias" else -0.5))
    kinds = {Conv3x3: nn.Conv2d, FoldedConv: nn.Conv2d, FrozenBatchNorm2d: torchvision.ops.FrozenBatchNorm2d}
    twin = copy.deepcopy(body)
    for module in twin.modules():
        module.__class__ = kinds.get(type(module), type(module))
    assert list(twin.state_dict()) == list(body.state_dict())
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    answers = []
    for network in (body, twin):
        out = network(x)
        sum((level**2).mean() for level in out.values()).backward()
        answers.append([*out.values(), *(p.grad for p in network.parameters() if p.grad is not None)])
    assert len(answers[0]) == len(answers[1])
    for found, wanted in zip(*answers, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10 * float(wanted.detach().abs().max()))
    norms = [m for m in body.modules() if isinstance(m, FrozenBatchNorm2d)]
    plain_3x3 = sum(isinstance(m, Conv3x3) for m in body.modules())
    assert sum(norm.folded for norm in norms) == len(norms) - plain_3x3 > 0


def test_away_from_the_cpu_every_fixed_norm_is_folded():
    """torch's convolution and torchvision's norm, for one that would go Winograd's way; on the meta device all are."""
    network = nn.Sequential(Conv3x3.of(nn.Conv2d(96, 96, 3, padding=1, bias=False)), FrozenBatchNorm2d(96))
    network[1].running_mean.uniform_()
    x = torch.rand(1, 96, 12, 9)
    wanted = network[1](nn.functional.conv2d(x, network[0].weight, padding=1))
    fold(network, (Conv3x3,))
    torch.testing.assert_close(network(x), wanted)
    model = build_model(backbone="resnet18", num_classes=1, anchors_per_cell=1, width=8, frozen_batch_norm=True)
    place(model, torch.device("meta"))
    assert all(norm.folded for norm in model.modules() if isinstance(norm, FrozenBatchNorm2d))


def test_a_copy_and_a_later_state_are_folded_as_they_are():
    """A network is copied whole (its norms with it), and weights are loaded after it was built."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), FrozenBatchNorm2d(4))
    fold(network)
    other = copy.deepcopy(network)
    other.load_state_dict({name: torch.rand_like(values) for name, values in other.state_dict().items()})
    x = torch.rand(1, 3, 5, 5)
    wanted = torchvision.ops.FrozenBatchNorm2d(4)
    wanted.load_state_dict(other[1].state_dict())
    torch.testing.assert_close(other(x), wanted(nn.functional.conv2d(x, other[0].weight)))
    assert type(other[0]) is FoldedConv and not torch.equal(other(x), network(x))


def test_groups_are_torchs():
    """torch.nn.GroupNorm, where it can."""
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GroupNorm(4, 8)(x), nn.GroupNorm(4, 8)(x))


def test_a_single_value_is_normalised_to_the_bias():
    """Wu and He 2018, eq. 1: x - mean is 0; torch.nn.GroupNorm raises `Expected more than 1 value per channel`."""
    norm = GroupNorm(4, 4)
    nn.init.constant_(norm.bias, 0.5)
    x = torch.full((1, 4, 1, 1), 7.0, requires_grad=True)
    out = norm(x)
    out.sum().backward()
    assert out.flatten().tolist() == pytest.approx([0.5] * 4, abs=1e-3) and torch.isfinite(x.grad).all()
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.GroupNorm(4, 4)(x)


def test_a_narrow_head_with_norms_trains_on_one_small_picture():
    """32 channels in 32 groups; P7 of a picture of 96 px is one cell."""
    model = build_model(
        backbone="mobilenet_v2", num_classes=2, anchors_per_cell=3, width=32, head_depth=1, head_norm="group",
        frozen_batch_norm=True,
    ).train()  # fmt: skip
    logits, deltas = model(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    (logits.sum() + deltas.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
