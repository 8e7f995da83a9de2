"""The coefficients of penalised splines, and how smooth they are: by restricted maximum likelihood, or as given."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxvelo.trends._basis import DIFFERENCES

RATIOS = 10.0 ** np.arange(-6.0, 6.01, 0.25)
"""Penalties that are tried, relative to :math:`\\operatorname{tr} G / \\operatorname{tr} S`."""

Criterion = Literal["REML", "GCV"]


class Directions(NamedTuple):
    r"""Coefficients in which information and penalty are both diagonal (Demmler & Reinsch 1975).

    With the Gram matrix :math:`G`, the penalty :math:`S` and :math:`\tau = \operatorname{tr} G / \operatorname{tr} S`,
    the matrix :math:`R` of the generalised eigenvectors of :math:`G` and :math:`G + \tau S` has

    .. math:: R^\top G R = \operatorname{diag}(g), \quad R^\top (\tau S) R = \operatorname{diag}(1 - g),
        \quad 0 \leq g \leq 1:

    one decomposition serves all penalties :math:`\rho \tau S`, and all genes whose Gram matrix it is.
    """

    vectors: Float[np.ndarray, "genes n_knots n_knots"]
    information: Float[np.ndarray, "genes n_knots"]
    unit: Float[np.ndarray, " genes"]

    def precision(self, ratio: Float[np.ndarray, " genes"]) -> Float[np.ndarray, "genes n_knots"]:
        """Diagonal of the penalised information for a penalty relative to ``unit``."""
        return self.information + ratio[:, None] * (1 - self.information)

    def spread(self, diagonal: Float[np.ndarray, "genes n_knots"]) -> Float[np.ndarray, "genes n_knots n_knots"]:
        """Matrix that has this diagonal in these directions."""
        return (self.vectors * diagonal[:, None]) @ self.vectors.swapaxes(1, 2)


def directions(
    gram: Float[np.ndarray, "genes n_knots n_knots"], penalty: Float[np.ndarray, "n_knots n_knots"]
) -> Directions:
    """Find the directions of each Gram matrix."""
    unit = np.trace(gram, axis1=1, axis2=2) / np.trace(penalty)
    root = np.linalg.cholesky(gram + unit[:, None, None] * penalty)
    half = np.linalg.solve(root, gram)
    information, vectors = np.linalg.eigh(np.linalg.solve(root, half.swapaxes(1, 2)))
    return Directions(np.linalg.solve(root.swapaxes(1, 2), vectors), np.clip(information, 0, 1), unit)


class Smooth(NamedTuple):
    """Penalised coefficients of one curve for all genes.

    Attributes
    ----------
    coefficients
        Minimum of the penalised squares.
    ratio
        Penalty relative to the directions' unit.
    degrees
        Effective degrees of freedom.
    scale
        Variance of an observation of weight one, relative to the model's.
    log_variance
        Variance of the logarithm of the penalty, zero where it is given.
    """

    coefficients: Float[np.ndarray, "genes n_knots"]
    ratio: Float[np.ndarray, " genes"]
    degrees: Float[np.ndarray, " genes"]
    scale: Float[np.ndarray, " genes"]
    log_variance: Float[np.ndarray, " genes"]


def smooth(
    along: Directions,
    right: Float[np.ndarray, "genes n_knots"],
    squares: Float[np.ndarray, " genes"],
    n_effective: float,
    criterion: Criterion,
    known: tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]] | None = None,
    scale: Float[np.ndarray, " genes"] | None = None,
) -> Smooth:
    r"""Choose the penalty of each gene, and solve for its coefficients.

    With :math:`c = R^\top b`, :math:`A = g + \rho (1 - g)`, the sum of squares :math:`z` and :math:`n` cells, the
    restricted likelihood (Wood 2011, for a Gaussian working model whose scale is unknown) is, up to a constant,

    .. math:: -2 \ell(\rho) = (n - 2) \log\Big(z - \sum_k \frac{c_k^2}{A_k}\Big) + \sum_k \log A_k - (K - 2) \log \rho,

    and generalised cross validation minimises :math:`n D / (n - \sum_k g_k/A_k)^2` with
    :math:`D = z - 2 \sum_k c_k^2/A_k + \sum_k g_k c_k^2/A_k^2`. Where the scale :math:`\phi` is known, the first
    term is :math:`(z - \sum_k c_k^2/A_k) / \phi`, and Mallows' :math:`D + 2 \phi \sum_k g_k/A_k` takes the place of
    cross validation.

    Parameters
    ----------
    along
        Directions, of each gene or of all.
    right
        Sums :math:`b` of weight times basis times working response.
    squares
        Sums :math:`z` of weight times squared working response.
    n_effective
        Number of cells :math:`n` that the weights amount to.
    criterion
        Which of the two.
    known
        The penalty :math:`\rho` and the variance of its logarithm, where they are known.
    scale
        The scale :math:`\phi`, where it is known.
    """
    c2, g = (along.vectors.swapaxes(1, 2) @ right[..., None])[..., 0] ** 2, along.information
    least = np.finfo(float).tiny + 1e-14 * squares  # of a curve through all cells
    if known is not None:
        ratio, log_variance = known
    else:
        losses = np.stack([_loss(g, c2, squares, r, n_effective, criterion, least, scale) for r in RATIOS])
        best = losses.argmin(axis=0)
        inner, genes = np.clip(best, 1, len(RATIOS) - 2), np.arange(len(right))
        before, here, after = (losses[inner + shift, genes] for shift in (-1, 0, 1))
        step, curvature = np.log(RATIOS[1] / RATIOS[0]), before - 2 * here + after
        is_inner = (best == inner) & (curvature > 0)
        shift = np.where(is_inner, (before - after) / (2 * np.where(is_inner, curvature, 1)), 0)
        ratio = RATIOS[best] * np.exp(step * np.clip(shift, -1, 1))
        is_likelihood = is_inner & (criterion == "REML")
        log_variance = np.where(is_likelihood, 2 * step**2 / np.where(is_inner, curvature, 1), 0)
    precision = along.precision(ratio)
    coefficients = (along.vectors @ (along.vectors.swapaxes(1, 2) @ right[..., None] / precision[..., None]))[..., 0]
    if scale is None:
        scale = np.maximum(squares - (c2 / precision).sum(1), least) / max(n_effective - DIFFERENCES, 1)
    return Smooth(coefficients, ratio, (g / precision).sum(1), scale, log_variance)


def _loss(g, c2, squares, ratio, n, criterion, least, scale):
    precision = g + ratio * (1 - g)
    explained, degrees = (c2 / precision).sum(1), (g / precision).sum(1)
    if criterion == "GCV":
        residual = squares - 2 * explained + (g * c2 / precision**2).sum(1)
        if scale is not None:
            return residual + 2 * scale * degrees
        return n * np.maximum(residual, least) / np.maximum(n - degrees, 1) ** 2
    if scale is not None:
        fit = (squares - explained) / scale
    else:
        fit = (n - DIFFERENCES) * np.log(np.maximum(squares - explained, least))
    return fit + np.log(precision).sum(1) - (g.shape[1] - DIFFERENCES) * np.log(ratio)
