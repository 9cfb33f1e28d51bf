"""The kernel of the focal loss against float64: on a GPU, or with TRITON_INTERPRET=1 in triton's interpreter.

The expected numbers are those of focal_loss.py, in numpy, which test_focal_loss.py holds to the paper.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch

from focalcli import focal_loss as in_numpy
from focalcli.training import loss
from focalcli.training.loss import BACKGROUND, IGNORE, focal_loss

pytest.importorskip("triton", reason="triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not (torch.cuda.is_available() or INTERPRETED):
    pytest.skip("no CUDA device", allow_module_level=True)

from focalcli.training import loss_kernel  # noqa: E402 (imports triton)

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
ERROR = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the gradient, beside 6e-8 absolute
GAMMAS = [0.0, 0.3, 0.7, 1.0, 1.5, 2.0, 5.0, [0.0, 0.3, 1.0, 2.0, 5.0]]


def case(rows: int, classes: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of every size from 1e-3 to 1e4, and labels of every kind."""
    generator = torch.Generator().manual_seed(rows)
    sizes = 10 ** torch.empty(rows, classes).uniform_(-3, 4, generator=generator)
    logits = sizes * torch.randn(rows, classes, generator=generator).sign()
    return logits.to(dtype).to(DEVICE), torch.randint(IGNORE, classes, (rows,), generator=generator).to(DEVICE)


def in_float64(logits, labels, alpha, gamma):
    """The summed loss and the (A, K) gradient."""
    x, label = logits.detach().double().cpu().numpy(), labels.cpu().numpy()
    total, slopes = 0.0, np.zeros_like(x)
    alphas, gammas = (v if isinstance(v, list) else [v] * x.shape[1] for v in (alpha, gamma))
    counts = label != IGNORE
    for k, (a, g) in enumerate(zip(alphas, gammas, strict=True)):
        total += in_numpy.focal_loss(x[counts, k], label[counts] == k, alpha=a, gamma=g).sum()
        slopes[counts, k] = in_numpy.focal_gradient(x[counts, k], label[counts] == k, alpha=a, gamma=g)
    return total, slopes


def tensor_or_number(value):
    return torch.tensor(value, device=DEVICE) if isinstance(value, list) else value


@pytest.mark.parametrize("dtype", list(ERROR), ids=str)
@pytest.mark.parametrize("alpha", [0.25, [0.1, 0.25, 0.5, 0.75, 0.9]], ids=str)
@pytest.mark.parametrize("gamma", GAMMAS, ids=str)
def test_the_kernel_gives_the_loss_and_gradient_of_float64(gamma, alpha, dtype):
    """TRAPS 16 and 17: |logit| up to 1e4, 0 < gamma < 1, half types; 1003 rows of 5 are two blocks and a rest."""
    logits, labels = case(1003, 5, dtype)
    total, slopes = in_float64(logits, labels, alpha, gamma)
    found, gradient = loss_kernel.loss_and_gradient(logits, labels, *map(tensor_or_number, (alpha, gamma)), 10.0)
    assert found.item() == pytest.approx(total / 10, rel=2e-6)
    assert gradient.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    np.testing.assert_allclose(gradient.double().cpu().numpy(), slopes / 10, rtol=ERROR[dtype], atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2048), (2049, 1), (3, 1203), (4096, 2), (700, 3), (0, 5)], ids=str)
def test_blocks_need_not_end_where_rows_do(shape):
    """A block is 2048 logits: shapes of exactly one or two, of one more, of LVIS's 1,203 classes, and of nothing."""
    logits, labels = case(*shape)
    total, slopes = in_float64(logits, labels, 0.25, 2.0)
    found, gradient = loss_kernel.loss_and_gradient(logits, labels, 0.25, 2.0, 1.0)
    assert found.item() == pytest.approx(total, rel=2e-6)
    np.testing.assert_allclose(gradient.cpu().numpy(), slopes, rtol=2e-5, atol=1e-9)


def test_small_losses_keep_their_digits():
    """log(1 + u) of small u, by numpy's log1p in float64: a new head's background has logits of -4.6 and less."""
    logits = torch.linspace(-80, 0, 1600, device=DEVICE).reshape(-1, 1)
    for row in (slice(0, 1), slice(400, 401), slice(1200, 1201), slice(1599, 1600)):
        total, _ = in_float64(logits[row], torch.tensor([BACKGROUND]), 0.25, 0.0)
        found, _ = loss_kernel.loss_and_gradient(logits[row], torch.tensor([BACKGROUND], device=DEVICE), 0.25, 0.0, 1.0)
        assert found.item() == pytest.approx(total, rel=1e-5)


def test_logits_need_not_be_contiguous():
    """A head's output may be a view: here every second column."""
    logits, labels = case(50, 6)
    labels = labels.clamp(max=2)
    total, slopes = in_float64(logits[:, ::2], labels, 0.25, 2.0)
    found, gradient = loss_kernel.loss_and_gradient(logits[:, ::2], labels, 0.25, 2.0, 1.0)
    assert found.item() == pytest.approx(total, rel=2e-6)
    np.testing.assert_allclose(gradient.cpu().numpy(), slopes, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", list(ERROR), ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.1, 65536.0])
def test_the_gradient_is_scaled_where_it_is(factor, dtype):
    """65,536 is GradScaler's first factor; 1 leaves every bit as it was. The interpreter cuts bf16, a GPU rounds it."""
    given = torch.randn(5000, generator=torch.Generator().manual_seed(0)).to(dtype).to(DEVICE)
    scaled = given.clone()
    loss_kernel.scale(scaled, torch.tensor(factor, device=DEVICE))
    torch.testing.assert_close(scaled, (given.float() * factor).to(dtype), rtol=ERROR[dtype] * (factor != 1), atol=0)


def test_the_check_passes_and_finds_a_wrong_kernel(monkeypatch):
    """What loss.py asks before it uses the kernel."""
    loss_kernel.check(DEVICE, 5)
    monkeypatch.setattr(
        loss, "loss_and_gradient", lambda *_: (torch.zeros((), device=DEVICE), torch.zeros(1, device=DEVICE))
    )
    with pytest.raises(RuntimeError, match="is right"):
        loss_kernel.check(DEVICE, 5)


@pytest.mark.skipif(INTERPRETED, reason="no CUDA device")
@pytest.mark.parametrize("dtype", list(ERROR), ids=str)
def test_on_a_gpu_focal_loss_is_the_kernel(dtype):
    """From focal_loss to the gradient of the leaf, with a division before and a factor after, and no fallback."""
    logits, labels = case(3000, 80, dtype)
    leaf = logits.clone().requires_grad_()
    total, slopes = in_float64(logits, labels, 0.25, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = focal_loss(leaf, labels, 0.25, 2.0, 100.0)
        (3 * found).backward()
    assert loss._kernel_for(leaf) is loss_kernel
    assert found.item() == pytest.approx(total / 100, rel=2e-6)
    np.testing.assert_allclose(leaf.grad.double().cpu().numpy(), slopes * 0.03, rtol=ERROR[dtype], atol=6e-8)
