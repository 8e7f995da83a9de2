"""Many tests at once: q-values."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control


def q_values(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    r"""Smallest false discovery rate at which each test would be called.

    .. math:: q_{(i)} = \min_{j \geq i} \frac{m}{j} p_{(j)}

    for the :math:`m` tests whose p-value is not NaN; the others keep NaN (Benjamini & Hochberg 1995).
    """
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q
