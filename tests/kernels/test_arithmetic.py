"""Sums, quotients and differences; basic kernels by their numbers."""

import numpy as np
import pandas as pd
import pytest

from jaxvelo.kernels import ConnectivityKernel, KernelAdd, PrecomputedKernel, VelocityKernel
from tests.bent_line import N_CELLS

SHARES = np.linspace(0.1, 0.9, N_CELLS)


@pytest.fixture(scope="module")
def v(made):
    return VelocityKernel(made).compute_transition_matrix(softmax_scale=2.0)


@pytest.fixture(scope="module")
def c(made):
    return ConnectivityKernel(made).compute_transition_matrix()


@pytest.fixture(scope="module")
def p(made, c):
    return PrecomputedKernel(c.transition_matrix @ c.transition_matrix, made)


def test_sums_of_lists(v, c, p):
    total = sum([0.3 * v, 0.5 * c, 0.2 * p])
    assert repr(total) == repr(0.3 * v + 0.5 * c + 0.2 * p)
    assert len(total) == 3
    assert sum([v]) is v
    assert repr(sum([v, c])) == repr(v + c)
    for other in (1, 0.5, True, False, None, []):
        with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
            other + v


def test_quotients(v, c):
    assert repr(v / 2) == repr(0.5 * v)
    assert (v / 4).weight == 0.25
    assert (v / np.float32(4)).weight == 0.25
    assert ((3 * v) / 2).weight == 1.5
    np.testing.assert_allclose((v / SHARES).weight, 1 / SHARES)
    names = pd.Series(SHARES, [f"cell_{i}" for i in range(N_CELLS)])
    np.testing.assert_allclose((v / names[::-1]).weight, 1 / SHARES)
    assert repr((v + c) / 2) == repr(0.5 * (v + c))
    for divisor in (0, -2, np.nan, np.r_[0.0, SHARES[1:]]):
        with pytest.raises(ValueError, match="positive and finite"):
            v / divisor
    for quotient in (lambda: v / c, lambda: 2 / v, lambda: SHARES / v, lambda: v / "2"):
        with pytest.raises(TypeError, match="unsupported operand"):
            quotient()


def test_no_differences(v, c):
    for difference in (
        lambda: v - c,
        lambda: -v,
        lambda: v - 0.5 * c,
        lambda: v - 1,
        lambda: 1 - v,
        lambda: SHARES - v,
    ):
        with pytest.raises(TypeError, match=r"found a difference: weights are positive.*`0.8 \* a \+ 0.2 \* b`"):
            difference()


def test_constants_are_weights(v, c):
    weight = (2 * v)[0]
    assert repr(weight * c) == repr(2 * c)


def test_numbers(v, c, p):
    """Basic kernels are numbered in order of appearance; the terms of the transition function name them by number."""
    kernel = 0.5 * ((0.2 * c + 0.8 * v) * (c + p)) + 0.5 * v
    assert kernel.kernels == (c, v, p)
    assert kernel.occurrences == (0, 1, 0, 2, 1)
    assert (v * v).occurrences == (0, 0)
    assert v.occurrences == (0,)
    inner = kernel[0][1]
    assert kernel.weighted_sums == (kernel, inner[0], inner[1])
    assert (v * c + c).weighted_sums == ()
    assert v.weighted_sums == ()


def test_other_kernels_in_their_places(made, v, c, p):
    kernel = 0.5 * ((0.2 * c + 0.8 * v) * (c + p)) + 0.5 * v
    w = VelocityKernel(made).compute_transition_matrix(softmax_scale=1.0)
    other = kernel.with_kernels([c, w, p])
    assert other.kernels == (c, w, p)
    assert repr(other) == repr(0.5 * ((0.2 * c + 0.8 * w) * (c + p)) + 0.5 * w)
    assert kernel.kernels == (c, v, p)
    assert v.with_kernels([w]) is w


def test_other_weights_in_their_places(v, c, p):
    kernel = 0.5 * ((0.2 * c + 0.8 * v) * (c + p)) + 0.5 * v
    weights = [(1, 2), (SHARES, 1 - SHARES), (0.3, 0.7)]
    other = kernel.with_kernels(kernel.kernels, weights)
    assert repr(other) == repr(1 * ((SHARES * c + (1 - SHARES) * v) * (0.3 * c + 0.7 * p)) + 2 * v)
    assert isinstance(other, KernelAdd)
    assert other.weights == pytest.approx((1 / 3, 2 / 3))
