"""The kernel of the focal loss where there is no GPU: in triton's interpreter, and compiled for GPUs that are not here.

On a machine with a GPU tests/gpu/test_loss_gpu.py runs it there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings

import pytest
import torch
from command import ROOT

from focalcli.training import loss
from focalcli.training.loss import focal_loss

pytest.importorskip("triton", reason="triton is not installed")


def test_the_kernel_passes_its_gpu_tests_in_tritons_interpreter():
    """TRITON_INTERPRET=1 runs a kernel in numpy, operation by operation; it must be set before triton is imported."""
    words = ["-q", "-p", "no:cacheprovider", ROOT / "tests/gpu/test_loss_gpu.py"]
    command = [sys.executable, "-m", "pytest", *map(str, words)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed, 3 skipped", done.stdout)  # those three want a GPU
    assert passed and int(passed[1]) > 60, done.stdout


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_kernel_compiles_for_gpus_that_are_not_here(dtype, capability, tmp_path, monkeypatch):
    """triton.compile down to machine code of an A100 (80) and an H100 (90): the interpreter knows neither the
    compiler's types nor its rules. Per-class alpha, any gamma; then alpha of all, gamma 2."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from focalcli.training import loss_kernel

    pointers = {"logits": f"*{dtype}", "labels": "*i64", "grad": "*fp32" if dtype == "fp16" else f"*{dtype}"}
    options = {name: value for name, value in loss_kernel.LAUNCH.items() if name != "BLOCK"}
    target = GPUTarget("cuda", capability, 32)
    for per_class, power in ((True, -1), (False, 2)):
        constants = {"CLASSES": 80, "ALPHA_OF_CLASS": per_class, "GAMMA_OF_CLASS": per_class, "POWER": power}
        constants |= {"IGNORE": loss.IGNORE, "BLOCK": loss_kernel.BLOCK}
        number = "*fp32" if per_class else "fp32"
        types = {**pointers, "alpha": number, "gamma": number, "factor": "fp32", "sums": "*fp32", "size": "i32"}
        signature = {name: types.get(name, "constexpr") for name in loss_kernel._loss.arg_names}
        source = ASTSource(loss_kernel._loss, signature=signature, constexprs=constants)
        assert compile(source, target=target, options=options).asm["cubin"]
    types = {"grad": pointers["grad"], "factor": "*fp32", "size": "i32", "BLOCK": "constexpr"}
    source = ASTSource(loss_kernel._scale, signature=types, constexprs={"BLOCK": loss_kernel.BLOCK})
    assert compile(source, target=target, options=options).asm["cubin"]


def test_a_kernel_that_cannot_be_built_is_said_once_and_done_without(monkeypatch):
    """Triton needs a C compiler for its launcher, and a card that it knows; without, the numbers stay the same."""
    loss._tried_kernel.cache_clear()
    monkeypatch.setattr(loss, "_kernel_for", lambda logits: loss._tried_kernel(logits.device, logits.shape[1]))
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([-2, -1, 0, 1, 2, 0, -1])
    with pytest.warns(UserWarning, match="the loss does without its kernel"):  # on the CPU there is no driver for it
        first = focal_loss(logits, labels, 0.25, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = focal_loss(logits, labels, 0.25, 2.0)
    loss._tried_kernel.cache_clear()
    monkeypatch.undo()
    assert first == second == focal_loss(logits, labels, 0.25, 2.0)
