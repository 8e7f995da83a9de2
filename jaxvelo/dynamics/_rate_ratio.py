r"""The ratio of degradation to splicing of a gene, when its curve may be another than that of its cells.

What the cells show well is the slope of the steady states, :math:`U / S = c\, \gamma / \beta`, with the scaling
:math:`c` between unspliced and spliced counts. What part of it is scaling is seen in the bend of the curve alone; where
transcription changes gradually, there is no bend, the curve hugs the line, and its scaling has no meaning. So either

- the curve is that of the cells, and finds :math:`\log c` with its standard error, and another 0.2 for what it leaves
  out; or
- it is not, and what it finds is :math:`\log c` with a standard deviation of 2,

both equally likely before, with a normal prior on :math:`\log c`: unspliced molecules are captured as well as spliced
ones, or half as well. How far the curve's scaling lies from that tells which it is. Most transcripts are spliced faster
than they are degraded: :math:`\log \gamma / \beta` has a weak prior of its own, as wide as what is found of the genes
where that is wider.

How well slopes are known is seen in all genes together: as well as the curves' agree with those of the highest cells
alone, but not worse than to 0.55. Within a data set, the genes whose two slopes agree have no smaller errors than the
others. No data that follow the line tell the scalings, which may be all higher or lower: what is expected of them stays
as wide as it is. The constants were chosen on simulated data.
"""

import math
from typing import Any, NamedTuple

from jaxtyping import Float

# Of log c, before seeing a gene.
SCALING_MEAN, SCALING_DEVIATION = -0.35, 0.5
# Standard deviations of log c about the curve's: beyond its standard error, and where the cells have another curve.
RIGHT, WRONG = 0.2, 2.0
# Standard deviation of the logarithm of the slope, at most, and that over the median difference of two slopes, which
# come from the same cells and share errors: twice that of the difference.
SLOPE_DEVIATION, OF_DIFFERENCE = 0.55, 3.0
# As many genes say as much of that deviation as is known before.
GENES_BEFORE = 10
# Of the logarithm of the ratio, before seeing a gene; the deviation is the least.
RATIO_MEAN, RATIO_DEVIATION = math.log(0.3), 1.0
# Standard deviation of a normal distribution over its median absolute deviation.
NORMAL = 1.4826


class RateRatio(NamedTuple):
    r"""Posterior of :math:`\log \gamma / \beta`, see :func:`rate_ratio`.

    Attributes
    ----------
    mean, deviation
        Mean and standard deviation of the natural logarithm, of shape (genes,).
    follows_curve
        Probability that the curve is that of the cells, of shape (genes,).

    Examples
    --------
    >>> same = np.zeros(3)
    >>> ratio = jv.dynamics.rate_ratio(same, same, same, same)
    >>> ratio.mean.shape, bool((ratio.deviation > 0).all()), bool((ratio.follows_curve <= 1).all())
    ((3,), True, True)
    """

    mean: Float[Any, " genes"]
    deviation: Float[Any, " genes"]
    follows_curve: Float[Any, " genes"]


def rate_ratio(
    log_ratio: Float[Any, " genes"],
    log_scaling: Float[Any, " genes"],
    variance: Float[Any, " genes"],
    log_slope: Float[Any, " genes"],
) -> RateRatio:
    r"""Posterior of the ratio of degradation to splicing, from those of the curves.

    The slope of the steady states is well known, :math:`\log k = \log \gamma / \beta + \log c`; its part :math:`c`, the
    scaling, only where the curve is that of the cells (:math:`r`). With the scaling :math:`\hat c` of the curve and the
    variance :math:`\varsigma^2` of its logarithm,

    .. math:: \log c \sim \mathcal N(-0.35, 0.5^2), \qquad
              \log \hat c \mid c, r \sim \mathcal N(\log c, \varsigma^2 + 0.2^2), \qquad
              \log \hat c \mid c, \neg r \sim \mathcal N(\log c, 2^2), \qquad P(r) = \tfrac12 .

    The ratio has a prior around :math:`\log 0.3`, as wide as what is found of all genes, but not narrower than 1.

    Parameters
    ----------
    log_ratio, log_scaling
        Of the curves, of shape (genes,), finite.
    variance
        Of the logarithm of the curves' scaling, of shape (genes,). Where it is not finite, it is taken to be as wide as
        that of a curve that is not that of the cells.
    log_slope
        Of the highest cells, see :func:`steady_slopes`, of shape (genes,), finite.

    Returns
    -------
    RateRatio
        By the moments of a mixture of two normal distributions. Differentiable for JAX arrays.

    Examples
    --------
    >>> log_ratio, log_scaling, variance = np.log([0.3, 0.3, 0.3]), np.array([-0.3, -0.3, 5.0]), np.full(3, 0.01)
    >>> ratio = jv.dynamics.rate_ratio(log_ratio, log_scaling, variance, log_ratio + log_scaling)
    >>> (ratio.follows_curve > 0.5).tolist()  # the third scaling is beyond belief
    [True, True, False]
    """
    xp = log_ratio.__array_namespace__()
    variance = xp.where(xp.isfinite(variance), variance, WRONG**2)
    slope = log_ratio + log_scaling
    of_slope = _variance_of_slopes(xp, slope - log_slope)
    before = SCALING_DEVIATION**2
    logarithms, means, variances = [], [], []
    for spread in (variance + RIGHT**2, xp.full_like(variance, WRONG**2)):
        both = before + spread
        logarithms.append(-0.5 * (xp.log(both) + xp.square(log_scaling - SCALING_MEAN) / both))
        means.append((SCALING_MEAN * spread + log_scaling * before) / both)
        variances.append(before * spread / both)
    right = 1 / (1 + xp.exp(xp.clip(logarithms[1] - logarithms[0], -80.0, 80.0)))
    scaling = right * means[0] + (1 - right) * means[1]
    spread = right * variances[0] + (1 - right) * variances[1]
    spread = spread + right * (1 - right) * xp.square(means[0] - means[1])
    spread = spread + of_slope
    found = slope - scaling
    width = xp.square(xp.maximum(NORMAL * xp.median(xp.abs(found - RATIO_MEAN)), RATIO_DEVIATION))
    share = width / (width + spread)
    mean = share * found + (1 - share) * RATIO_MEAN
    return RateRatio(mean, xp.sqrt(share * spread), right)


def _variance_of_slopes(xp: Any, differences: Float[Any, " genes"]) -> Float[Any, ""]:
    """Variance of the logarithms of slopes, from their differences to others: the mean of what is seen and known."""
    n_genes, before = differences.shape[0], SLOPE_DEVIATION**2
    seen = xp.square(OF_DIFFERENCE * xp.median(xp.abs(differences)))
    mean = (n_genes * seen + GENES_BEFORE * before) / (n_genes + GENES_BEFORE)
    return xp.minimum(mean, xp.full_like(mean, before))
