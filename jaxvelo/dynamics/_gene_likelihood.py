"""How well the curve of a gene explains its cells: likelihood and variance."""

from typing import Any

from jaxtyping import Float


def gene_likelihood(
    signed_distance: Float[Any, "cells genes"],
    unspliced: Float[Any, "cells genes"],
    spliced: Float[Any, "cells genes"],
) -> tuple[Float[Any, " genes"], Float[Any, " genes"]]:
    r"""Variance of the distances to the curve, and the likelihood of the gene.

    Over the :math:`m` cells that have more than a third of the largest unspliced and of the largest spliced counts
    (over all cells, if there are none), with the signed distances :math:`d_i` of
    :meth:`SplicingKinetics.signed_distances` and :math:`n` cells in all,

    .. math:: \sigma^2 = \frac1m \sum_i \Big(d_i - \frac1m \sum_j d_j\Big)^2, \qquad
              L = \frac{1}{\sqrt{2 \pi \sigma^2}}
                  \exp\Big(-\frac{\sum_i d_i^2}{2 \sigma^2 \max(m - 0.01 n, 2)}\Big).

    A variance of zero counts as one. NumPy arrays are computed with NumPy, JAX arrays with JAX; then it is
    differentiable in the distances, and so in the rates. Which cells count is held fixed.

    Parameters
    ----------
    signed_distance
        Distances of shape (cells, genes), in units of the standard deviations.
    unspliced, spliced
        First moments of shape (cells, genes), in any unit for each gene.

    Returns
    -------
    tuple of arrays
        Variance and likelihood, both of shape (genes,).

    References
    ----------
    Bergen et al. (2020), eq. 8; scVelo's ``fit_likelihood`` and ``fit_variance``.

    Examples
    --------
    >>> distances = np.array([[-0.5], [0.5], [-0.5], [0.5]])
    >>> variance, likelihood = jv.dynamics.gene_likelihood(distances, np.ones((4, 1)), np.ones((4, 1)))
    >>> variance.tolist(), likelihood.round(2).tolist()
    ([0.25], [0.48])
    """
    # One text for the fit, which runs on the host, and for gradients.
    xp = signed_distance.__array_namespace__()
    dtype = signed_distance.dtype
    upper = (unspliced > unspliced.max(axis=0, keepdims=True) / 3) & (spliced > spliced.max(axis=0, keepdims=True) / 3)
    upper = upper | ~upper.any(axis=0, keepdims=True)
    n_upper = upper.sum(axis=0).astype(dtype)
    distance = xp.where(upper, signed_distance, 0)
    sum_squared = (distance * distance).sum(axis=0)
    mean = (distance.sum(axis=0) / n_upper)[None]
    variance = xp.where(upper, xp.square(signed_distance - mean), 0).sum(axis=0) / n_upper
    variance = xp.where(variance > 0, variance, 1)
    n = xp.maximum(n_upper - 0.01 * len(unspliced), 2)
    return variance, xp.exp(-0.5 * sum_squared / n / variance) / xp.sqrt(2 * xp.pi * variance)
