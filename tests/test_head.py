"""A head asked for a few anchors says there what it says everywhere, and learns the same from them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcli.training import winograd
from focalcli.training.head import Head
from focalcli.training.tiles import layout

SIZES = ((13, 10), (7, 5), (4, 3), (2, 2), (1, 1))
ANCHORS = sum(h * w for h, w in SIZES) * 3


def box_head(depth=2, norm="none"):
    torch.manual_seed(0)
    made = Head("bbox_reg", 3, width=8, depth=depth, norm=norm, per_anchor=4).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def feature_maps(channels=8):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, channels, *size, generator=generator, dtype=torch.float64).requires_grad_() for size in SIZES
    ]


def taught(head, levels, anchors, upstream, *, everywhere):
    """Outputs at the anchors, and the gradients of levels and parameters."""
    for tensor in (*levels, *head.parameters()):
        tensor.grad = None
    out = head(levels).flatten(0, 1)[anchors] if everywhere else head(levels, anchors)
    out.backward(upstream)
    return [out.detach(), *(tensor.grad.clone() for tensor in (*levels, *head.parameters()))]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2 * ANCHORS - 1), min_size=1, max_size=12), st.integers(1, 4))
def test_a_few_anchors_give_outputs_and_gradients_of_all(chosen, depth):
    """The receptive field of depth + 1 convolutions, at borders too; an anchor may be asked for twice. The full head is
    torch's convolutions on whole maps (too few channels for any other), in float64: 1e-12."""
    head, levels, anchors = box_head(depth), feature_maps(), torch.tensor(chosen)
    upstream = torch.randn(len(anchors), 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = taught(head, levels, anchors, upstream, everywhere=True)
    for one, other in zip(taught(head, levels, anchors, upstream, everywhere=False), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(other.abs().max() + 1))


def test_a_head_of_all_levels_in_one_table_says_the_same(monkeypatch):
    """Wide heads go that way; here a narrow one is sent along."""
    head, levels = box_head(), feature_maps()
    wanted = head(levels)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 8)
    monkeypatch.setattr(winograd, "LEAST_TILES", 1)
    found = head(levels)
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_without_anchors_every_parameter_takes_part():
    """A step without objects, of one process among several: gradients are zeros, not missing, or the others wait."""
    head, levels = box_head(), feature_maps()
    out = head(levels, torch.zeros(0, dtype=torch.int64))
    out.sum().backward()
    assert out.shape == (0, 4)
    assert all((tensor.grad == 0).all() for tensor in (*levels, *head.parameters()))


def test_a_training_follows_a_prediction():
    """What is kept of a layout was made in torch's inference mode, whose tensors no gradient may need."""
    layout.cache_clear()
    winograd._transforms.cache_clear()
    head, levels, anchors = box_head(), feature_maps(), torch.tensor([5, 77])
    with torch.inference_mode():
        predicted = head(levels, anchors)
    learning = head(levels, anchors)
    learning.sum().backward()
    assert torch.equal(predicted, learning) and all(level.grad is not None for level in levels)


def test_with_group_norm_the_whole_map_counts():
    """Wu and He 2018, arXiv:1803.08494: the statistics are of all cells, so that none can be left out."""
    head, levels, anchors = box_head(norm="group"), feature_maps(), torch.tensor([5, 77])
    assert torch.equal(head(levels, anchors), head(levels).flatten(0, 1)[anchors])


@pytest.mark.parametrize(
    ("cell", "tiles"),
    [((0, 0), [1, 1, 1, 1]), ((1, 1), [1, 1, 1, 4]), ((3, 3), [1, 4, 4, 4]), ((6, 6), [1, 1, 4, 9])],
)
def test_the_tiles_that_a_cell_depends_on(cell, tiles):
    """By hand on 16 x 16 cells, last convolution first: (6, 6) is made from rows and columns 5 to 7, those from 4 to 8,
    those from 3 to 9."""
    row, column = cell
    steps = layout(1, ((16, 16),)).towards(torch.tensor([row * 16 + column]), 4)
    assert [len(step) for step in reversed(steps)] == tiles


def test_cells_around_a_corner_lie_outside():
    """Row 6 * 5 of a table of one map is the row of zeros."""
    found = layout(1, ((6, 5),)).around(torch.tensor([0, 29]))
    assert found.tolist() == [[30, 30, 30, 30, 0, 1, 30, 5, 6], [23, 24, 30, 28, 29, 30, 30, 30, 30]]
    assert layout(1, ((6, 5),)).read_for(torch.tensor([0, 29])).tolist() == [0, 1, 5, 6, 23, 24, 28, 29]
