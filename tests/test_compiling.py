"""A compiled backbone gives the same numbers under the same names; without a compiler there is a message."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from focalcli.errors import ExitCode, FocalError
from focalcli.training.compiling import compile_backbone
from focalcli.training.norms import FrozenBatchNorm2d
from focalcli.training.winograd import Conv3x3

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    body = nn.Sequential(Conv3x3.of(nn.Conv2d(96, 96, 3, padding=1)), FrozenBatchNorm2d(96), nn.Hardswish())
    return SimpleNamespace(backbone=SimpleNamespace(body=body))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_backbone_is_the_same_network():
    """Outputs and gradients within 1e-5 of their norm, and the names of a checkpoint."""
    model, x = network(), torch.randn(1, 96, 40, 40)
    body = model.backbone.body
    names, answers = list(body.state_dict()), []
    for compiled in (False, True):
        if compiled:
            compile_backbone(model, CPU)
        body.zero_grad()
        out = body(x)
        out.sum().backward()
        answers.append([out.detach(), *(p.grad.clone() for p in body.parameters())])
    for found, wanted in zip(*answers, strict=True):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()
    assert list(body.state_dict()) == names


def test_without_a_compiler_there_is_a_message(monkeypatch):
    """torch says it in several ways, wrapped in each other; the cause is what helps."""

    def broken(*_):
        try:
            raise RuntimeError("No working C++ compiler found in the list\nand more")
        except RuntimeError as error:
            raise TypeError("backend='inductor' raised") from error

    monkeypatch.setattr(torch, "compile", lambda _: broken)
    with pytest.raises(
        FocalError, match=r"cannot compile for cpu \(No working C\+\+ compiler found in the list\)"
    ) as e:
        compile_backbone(network(), CPU)
    assert "schedule.compile=false" in e.value.hint and e.value.exit_code == ExitCode.BAD_INPUT
