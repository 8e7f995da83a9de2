"""Whether the cells of a gene gather in its steady state: a second peak among its larger counts."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from jaxvelo.dynamics._typical_cells import typical_cells

N_PLACES = 30
# Of the places of the grid, the lowest of these in the middle parts the lower counts from the upper.
MIDDLE = slice(N_PLACES // 2 - 2, N_PLACES // 2 + 2)


def second_peak_p_values(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    scaling: float | None = None,
) -> Float[np.ndarray, " genes"]:
    r"""P-values of the counts of each gene having no second peak, of which cells in the steady state would be.

    A gene that is on long enough has cells that wait in its steady state: beside the peak of small counts, the density
    :math:`f` of the counts has one of large ones. With a kernel estimate of it at 30 places from the smallest to the
    largest count, and :math:`m` the lowest of the four places in the middle,

    .. math:: t = \frac{\max_{k \geq m} f_k - \operatorname{mean}_{k \geq m} f_k}
                       {\max(1, \operatorname{std}(f) / \sqrt{30})}, \qquad p = 1 - \Phi(t).

    That of a gene is the larger of those of its unspliced counts, divided by the scaling, and of its spliced counts.
    Used are the cells that have both, without the top percent of either.

    Parameters
    ----------
    unspliced, spliced
        First moments of shape (cells, genes), finite and not negative.
    scaling
        Observed unspliced counts for one of the model's; if None, the ratio of the standard deviations of each gene.

    Returns
    -------
    numpy.ndarray
        Of shape (genes,), from 0 to 0.5; 1 for genes in which there is nothing to see: fewer than three cells, or all
        of the same counts. They depend on the unit: a density is per count, so that small counts have large ones, and
        small p-values whether there is a second peak or not. Compare genes of like counts alone.

    References
    ----------
    The definition is scVelo's, of its ``fit_pval_steady``; Bergen et al. (2020), Methods, initialisation.

    Examples
    --------
    >>> p_values = jv.dynamics.second_peak_p_values(np.asarray(unspliced), np.asarray(spliced))
    >>> p_values.shape, bool(((p_values >= 0) & (p_values <= 1)).all())
    ((40,), True)
    """
    return np.array([_p_value_of_gene(u, s, scaling) for u, s in zip(unspliced.T, spliced.T, strict=True)])


def _p_value_of_gene(
    unspliced: Float[np.ndarray, " cells"], spliced: Float[np.ndarray, " cells"], scaling: float | None
) -> float:
    used = typical_cells(unspliced, spliced)
    if used.sum() < 3:
        return 1.0
    u, s = unspliced[used].astype(np.float64), spliced[used].astype(np.float64)
    spread = u.std(), s.std()
    if min(spread) == 0:
        return 1.0
    return max(_p_value(u / (spread[0] / spread[1] if scaling is None else scaling)), _p_value(s))


def _p_value(counts: Float[np.ndarray, " cells"]) -> float:
    places = np.linspace(counts.min(), counts.max(), N_PLACES)
    # Scott's rule. In double precision: which place is the lowest must not depend on rounding.
    width = counts.std(ddof=1) * len(counts) ** -0.2
    distances = (places[:, None] - counts[None]) / (width * math.sqrt(2))
    np.multiply(distances, distances, out=distances)
    np.exp(np.negative(distances, out=distances), out=distances)
    density = distances.mean(axis=1) / (width * math.sqrt(2 * math.pi))
    upper = density[MIDDLE.start + np.argmin(density[MIDDLE]) :]
    t = (upper.max() - upper.mean()) / max(density.std() / math.sqrt(N_PLACES), 1.0)
    return float(ndtr(-t))
