"""B-splines on equally spaced knots, and the penalty on their second differences."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DIFFERENCES = 2
"""Order of the differences that are penalised: straight lines cost nothing."""


def spline_basis(
    x: Float[Array | np.ndarray, " points"], n_knots: int, spline_order: int, derivative: int = 0, xp=jnp
) -> Float[Array | np.ndarray, "points n_knots"]:
    r"""B-splines, or their derivatives, at points of the unit interval.

    With :math:`u_j = x (K - d) - j + d` for the :math:`K` functions of order :math:`d`,

    .. math:: N_j(x) = M_d(u_j), \quad
        M_p(u) = \frac{u\, M_{p-1}(u) + (p + 1 - u)\, M_{p-1}(u - 1)}{p}, \quad
        M_p'(u) = M_{p-1}(u) - M_{p-1}(u - 1),

    and :math:`M_0` one on :math:`[0, 1)` and zero elsewhere (de Boor 1978, for equal distances). They sum to one.
    At the last point, :math:`x = 1`, derivatives are those from the left.

    Parameters
    ----------
    x
        Points from 0 to 1.
    n_knots
        Number of functions, more than ``spline_order``.
    spline_order
        Order of the polynomials, at least 1; 3 for cubic splines.
    derivative
        0, or 1 for the derivative with respect to ``x``.
    xp
        :mod:`jax.numpy`, in programs, or NumPy.
    """
    pieces = n_knots - spline_order
    first = (xp.arange(n_knots, dtype=x.dtype) - spline_order)[None]
    u = x[:, None] * pieces - first
    piece = xp.minimum(xp.floor(x * pieces), pieces - 1)[:, None] - first
    columns = [(piece == k).astype(x.dtype) for k in range(spline_order + 1)]
    for p in range(1, spline_order + 1):
        if derivative and p == spline_order:
            return pieces * (columns[0] - columns[1])
        columns = [((u - k) * columns[k] + (p + 1 + k - u) * columns[k + 1]) / p for k in range(spline_order + 1 - p)]
    return columns[0]


def difference_penalty(n_knots: int) -> Float[np.ndarray, "n_knots n_knots"]:
    """Matrix of the sum of squared second differences of the coefficients (Eilers & Marx 1996)."""
    differences = np.diff(np.eye(n_knots), DIFFERENCES, axis=0)
    return differences.T @ differences
