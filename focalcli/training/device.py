"""Where a training computes, and in which type of number."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from focalcli.errors import FocalError


def pick_device(name: str) -> torch.device:
    """cpu, cuda or auto (CUDA when there is one).

    Raises:
        FocalError: cuda was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise FocalError("--device cuda: torch sees no CUDA device", "check `nvidia-smi`, or leave --device auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def autocast_type(device: torch.device, precision: str) -> torch.dtype | None:
    """What to compute in, None for fp32; `precision` fp32, bf16 or fp16 decides by force.

    auto is bfloat16 where the device computes in it: a CPU without AVX512-BF16 or AMX emulates it, slower than fp32.

    Raises:
        FocalError: fp16 on a CPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise FocalError(
            f"schedule.precision: fp16 is for GPUs, and this run is on {device.type}", "set it to auto, fp32 or bf16"
        )
    if precision != "auto":
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    has_bf16 = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() or getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    )
    return torch.bfloat16 if has_bf16 else None


def scaler_of(device: torch.device, autocast: torch.dtype | None) -> torch.amp.GradScaler | None:
    """What keeps small fp16 gradients from vanishing; other types need none."""
    return torch.amp.GradScaler(device.type) if autocast is torch.float16 else None


def gpu_count() -> int:
    """How many CUDA devices torch sees."""
    return torch.cuda.device_count()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}"


@contextmanager
def out_of_memory_said(images: torch.Tensor, hint: str) -> Iterator[None]:
    """Around what computes on a batch, (N, 3, H, W).

    Raises:
        FocalError: there is not enough memory, of the GPU or of the machine.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # the CPU's allocator and CUDA's libraries raise a plain RuntimeError
        said = any(words in str(error) for words in ("allocate memory", "out of memory", "ALLOC_FAILED"))
        if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or said):
            raise
        count, _, height, width = images.shape
        what = f"{count} picture{'s' * (count > 1)} of {width} x {height} px"
        raise FocalError(f"out of memory with {what} at once", hint) from None
