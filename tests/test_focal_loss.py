"""The numpy focal loss says what the paper says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focalcli.errors import FocalError
from focalcli.focal_loss import equilibrium, focal_gradient, focal_loss, loss_at_rest, negative_share


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_easy_positive_is_downweighted_100x():
    """Lin et al. 2017, sec. 3.2: at p_t = 0.9, gamma = 2 costs 100x less than gamma = 0."""
    plain = focal_loss(logit(0.9), True, alpha=0.5, gamma=0)
    assert plain / focal_loss(logit(0.9), True, alpha=0.5, gamma=2) == pytest.approx(100)


def test_very_easy_positive_is_downweighted_1000x():
    """Lin et al. 2017, sec. 3.2: at p_t = 0.968, about 1000x less."""
    plain = focal_loss(logit(0.968), True, alpha=0.5, gamma=0)
    assert plain / focal_loss(logit(0.968), True, alpha=0.5, gamma=2) == pytest.approx(1000, rel=0.03)


def test_hard_positive_keeps_a_quarter():
    """Lin et al. 2017, sec. 3.2: at p_t <= 0.5 the loss is scaled down at most 4x for gamma = 2."""
    plain = focal_loss(logit(0.5), True, alpha=0.5, gamma=0)
    assert plain / focal_loss(logit(0.5), True, alpha=0.5, gamma=2) == pytest.approx(4)


@given(x=st.floats(-30, 30), positive=st.booleans(), alpha=st.floats(0.01, 0.99), gamma=st.floats(0, 6))
def test_gradient_is_the_slope_of_the_loss(x, positive, alpha, gamma):
    """Central difference of the loss, which knows nothing of the closed form."""
    h = 1e-4
    up, down = (float(focal_loss(x + s, positive, alpha=alpha, gamma=gamma)) for s in (h, -h))
    slope = float(focal_gradient(x, positive, alpha=alpha, gamma=gamma))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("gamma", [0, 0.3, 1, 2, 5])
@pytest.mark.parametrize("x", [-1e4, -50.0, 50.0, 1e4])
def test_extreme_logits_stay_finite(x, gamma):
    """TRAPS 16: 0 < gamma < 1 gives NaN gradients in the (1 - p)^gamma form."""
    for positive in (True, False):
        assert np.isfinite(focal_loss(x, positive, alpha=0.25, gamma=gamma))
        assert np.isfinite(focal_gradient(x, positive, alpha=0.25, gamma=gamma))
    assert focal_loss(-1e4, True, alpha=0.25, gamma=gamma) == pytest.approx(2500)


def test_coco_equilibrium_is_the_papers_prior():
    """A fraction of 1e-5 per class, alpha 0.25, gamma 2: p = (0.25e-5 / 2.25)^(1/3) = 0.01036; the paper's is 0.01."""
    assert equilibrium(1, 1e5, alpha=0.25, gamma=2) == pytest.approx(0.01036, rel=0.03)


def test_cross_entropy_rests_at_the_class_frequency():
    """Known of logistic regression: with gamma 0 and alpha 0.5 the bias rests at n / (n + N)."""
    assert equilibrium(3, 97, alpha=0.5, gamma=0) == pytest.approx(0.03)


def test_negatives_carry_nearly_all_of_the_first_cross_entropy():
    """By hand: p = 0.5 everywhere, alpha 0.5, gamma 0, 1 positive and 999 negatives: every anchor costs the same."""
    assert negative_share(1, 999, 0.5, alpha=0.5, gamma=0) == pytest.approx(0.999)


@pytest.mark.parametrize(("alpha", "gamma"), [(0, 2), (1, 2), (0.5, -1), (0.5, math.nan)])
def test_values_out_of_range_are_refused(alpha, gamma):
    """eq. 5 needs 0 < alpha < 1 and gamma >= 0."""
    with pytest.raises(FocalError):
        focal_loss(0.0, True, alpha=alpha, gamma=gamma)


@pytest.mark.parametrize("foreground", [1e-5, 1e-3, 0.1])
def test_cross_entropy_at_rest_is_the_entropy_of_the_labels(foreground):
    """Shannon 1948: the best constant score is the share of positives, and its cross-entropy the entropy; for each
    positive, and by alpha 0.5."""
    share = foreground / (1 + foreground)
    entropy = -(share * math.log(share) + (1 - share) * math.log1p(-share))
    assert loss_at_rest(foreground, alpha=0.5, gamma=0.0) == pytest.approx(0.5 * entropy / share, rel=1e-9)
