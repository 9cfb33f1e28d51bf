"""A convolution the short way is torch's convolution: outputs, and gradients of inputs, weights and bias."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from focalcli.training import winograd
from focalcli.training.model import build_model
from focalcli.training.tiles import Tiles, layout, levels_of, sizes_of, table_of
from focalcli.training.winograd import Conv3x3, adopt, conv3x3

SIZES = st.lists(st.tuples(st.integers(1, 11), st.integers(1, 11)), min_size=1, max_size=3)


def maps(pictures, channels, sizes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(pictures, channels, *size, generator=generator, dtype=dtype) for size in sizes]


def relative(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


def both_ways(conv, levels, upstream):
    """Outputs, gradients of the levels, of the weights and of the bias, by torch and by conv3x3."""
    answers = []
    for by_torch in (True, False):
        given_levels = [level.clone().requires_grad_() for level in levels]
        conv.zero_grad()
        if by_torch:
            outputs = [conv(level) for level in given_levels]
        else:
            every = layout(len(levels[0]), sizes_of(levels)).every
            table = conv3x3(table_of(given_levels), conv, every)
            assert (table[-1] == 0).all()
            outputs = levels_of(table, len(levels[0]), sizes_of(levels))
        torch.autograd.backward(outputs, upstream)
        grads = [level.grad for level in given_levels]
        answers.append([*outputs, *grads, *(p.grad.clone() for p in conv.parameters())])
    return answers


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_it_is_torchs_convolution_in_float64(sizes, pictures, channels, outputs, bias):
    """torch.nn.Conv2d(3, padding=1) on every level; Lavin and Gray 2016, eq. 8, is an identity, so only rounding is
    left: 1e-12."""
    conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=bias, dtype=torch.float64)
    wanted, found = both_ways(conv, maps(pictures, channels, sizes), maps(pictures, outputs, sizes))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_in_fp32_it_rounds_to_1e_5_of_the_norm():
    """256 channels, as in the heads. Lavin and Gray 2016, table 7, find F(4x4) in fp32 somewhat less exact than direct
    convolution, and exact enough to train with."""
    conv = nn.Conv2d(256, 256, 3, padding=1)
    sizes = ((20, 20), (10, 9))
    wanted, found = both_ways(conv, maps(1, 256, sizes, torch.float32), maps(1, 256, sizes, torch.float32))
    for one, other in zip(found, wanted, strict=True):
        assert relative(one, other) < 1e-5


def test_it_goes_in_chunks_when_there_is_much(monkeypatch):
    """Three chunks of tiles add up to the same."""
    conv = nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64)
    monkeypatch.setattr(winograd, "NUMBERS_AT_ONCE", 36 * 3 * 3)
    levels = maps(2, 2, ((9, 10), (3, 3)))
    every = layout(2, sizes_of(levels)).every
    assert len(every) == 20 and len(winograd._chunks(every, conv.weight)) == 7
    for one, other in zip(*both_ways(conv, levels, maps(2, 3, ((9, 10), (3, 3)))), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_only_the_chosen_tiles_are_computed():
    """Tile 1 of a map of 8 x 8 cells is its upper right quarter; all else stays zero."""
    conv = nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64)
    levels = maps(1, 2, ((8, 8),))
    every = layout(1, ((8, 8),)).every
    some = Tiles(every.windows[1:2], every.cells[1:2])
    (found,) = levels_of(conv3x3(table_of(levels), conv, some), 1, ((8, 8),))
    wanted = torch.zeros_like(found)
    wanted[:, :, :4, 4:] = conv(levels[0])[:, :, :4, 4:]
    torch.testing.assert_close(found, wanted)


def test_no_tile_is_no_output_and_no_gradient():
    """Where a step has no object: zeros, which other processes' gradients can be added to."""
    conv = nn.Conv2d(2, 3, 3, padding=1)
    none = Tiles(torch.zeros(0, 36, dtype=torch.int64), torch.zeros(0, 16, dtype=torch.int64))
    table = table_of(maps(1, 2, ((8, 8),), torch.float32)).requires_grad_()
    out = conv3x3(table, conv, none)
    out.sum().backward()
    assert out.shape == (65, 3)
    assert all((g == 0).all() for g in (out, table.grad, conv.weight.grad, conv.bias.grad))


def test_a_module_goes_the_short_way_where_it_is_shorter(monkeypatch):
    """Wide maps of many cells; elsewhere, and in half precision, what torch does."""
    conv = Conv3x3.of(nn.Conv2d(96, 96, 3, padding=1))
    (x,) = maps(1, 96, ((32, 32),), torch.float32)
    calls = []
    honest = winograd.conv3x3
    monkeypatch.setattr(winograd, "conv3x3", lambda *args: calls.append(args) or honest(*args))
    assert relative(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)) < 1e-5
    assert len(calls) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    conv(x[:, :, :8])
    Conv3x3.of(nn.Conv2d(96, 8, 3, padding=1))(x)
    assert len(calls) == 1


def test_a_network_keeps_its_names_and_parameters():
    """Only plain 3x3 convolutions change, and are still the same tensors."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 4, 3, 2, 1),
        nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 2, 3, padding=1, bias=False)),
    )  # fmt: skip
    before = dict(network.named_parameters())
    adopt(network)
    assert [type(each) is Conv3x3 for each in (*network[:4], network[4][0])] == [True, False, False, False, True]
    after = dict(network.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("backbone", ["mobilenet_v3_large", "resnet18"])
def test_a_detector_says_the_same_either_way(backbone, monkeypatch):
    """Logits and deltas of the whole network against the same one with torch's convolutions."""
    torch.manual_seed(0)
    model = build_model(backbone=backbone, num_classes=3, anchors_per_cell=9, width=96, head_depth=2).eval()
    images = torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    with torch.inference_mode():
        found = copy.deepcopy(model)(images)
        monkeypatch.setattr(winograd, "can_serve", lambda x: False)
        wanted = model(images)
    for one, other in zip(found, wanted, strict=True):
        assert not torch.equal(one, other) and relative(one, other) < 1e-5
