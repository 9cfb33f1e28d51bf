"""torch.compile for the backbone, where most of a network's small operations are: fused, they are fewer passes."""

from __future__ import annotations

import torch

from focalcli.errors import FocalError
from focalcli.training.model import Detector, first_line


def compile_backbone(model: Detector, device: torch.device) -> None:
    """Let the backbone be compiled when it first runs, and again for another size; names and weights stay.

    Raises:
        FocalError: nothing can be compiled here, as a few numbers show that are tried first.
    """
    try:
        torch.compile(_tried)(torch.zeros(8, device=device))
    except Exception as error:  # no C++ compiler, no Python headers, no triton: each has an error of its own
        raise FocalError(
            f"schedule.compile: this machine cannot compile for {device.type} ({_reason(error)})",
            "install a C++ compiler (Debian, Ubuntu: g++) or, for a GPU, triton; or set schedule.compile=false",
        ) from None
    model.backbone.body.compile()


def _tried(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).relu()


def _reason(error: Exception) -> str:
    """The cause, which torch wraps in errors about its own stages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
