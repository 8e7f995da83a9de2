r"""Which model gives a gene its velocity: evidence, from where all genes of the cells go together.

Four models say how fast the spliced counts :math:`s` of a gene change:

- ``"curve"``: the curve of the dynamical model, with each cell on its branch;
- ``"induction"``, ``"repression"``: one branch of it for all cells;
- ``"gradual"``: transcription changes in an unknown way, and of the equations only :math:`\dot s = \beta u - \gamma s`
  is left, with the cell's own counts, averaged over neighbours.

What tells them apart is the change :math:`d` of the gene along the direction that all genes agree on (see
``_shared_directions``): a true velocity is proportional to it, but for noise. With the velocity :math:`v_m` of a model,
divided by its root mean square, and the deviation of the spliced counts as the unit,

.. math:: d = c\, v_m + \text{noise}, \qquad c \sim \mathcal N(\bar c, (0.3\, \bar c)^2),

with the same :math:`\bar c` for all genes: their velocities are about as large as each other, unless the cells say
otherwise. The gradual model has two parameters, and a prior around the line of the steady states, the one that the
extreme cells show: :math:`\gamma / \beta` is its slope, with a standard deviation of 0.3 times that. Both are linear
with normal errors, so that evidence (marginal likelihood) and posterior means are in closed form; what more freedom a
model has it pays for.

All that enters are the mean products of six things over the cells: small matrices, of which everything that follows is
a differentiable function.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from jaxvelo.dynamics._gene_blocks import gene_blocks
from jaxvelo.dynamics._shared_directions import shared_directions
from jaxvelo.dynamics._splicing import SplicingKinetics
from jaxvelo.graph._threads import n_workers, worker_threads

GRADUAL = "gradual"
MODELS = ("curve", "induction", "repression", GRADUAL)
# Share of the cells, the highest of a gene, that show its steady states.
EXTREME = 0.1
# Standard deviations of the prior, of the size of a velocity and of the slope of the line, relative to their means.
SIZE_DEVIATION, SLOPE_DEVIATION = 0.3, 0.3
# What a true velocity explains of the changes along the shared directions; the rest is their own error.
TRUE_SHARE = 0.75
# Number of genes whose arrays are held at a time, by all threads together.
GENES_AT_ONCE = 64
# Cells share most of their moments with their neighbours, and these theirs: neighbourhoods for one independent cell.
NEIGHBORHOODS = 2.0
# Of a change's mean square, the least that is taken for noise.
LEAST_NOISE = 1e-3
# Unspliced counts and those of the line nearer to each other than this share of both show no line, only rounding.
LEAST_LINE = 1e-3
# Fewer independent cells say nothing of the noise, which takes three of them.
LEAST_INDEPENDENT = 5.0


class GeneModels(NamedTuple):
    r"""Evidence for the models of genes, and the velocities that follow.

    Attributes
    ----------
    evidence
        Posterior probabilities of ``MODELS``, and of no motion at all, of shape (genes, 5), all equally likely before.
        NaN for genes of which the cells say nothing; their velocity is that of the curve.
    factors
        Velocity as a sum of six things times these, of shape (genes, 6): the change along the shared directions, the
        velocities of the curve and of both of its branches, averaged unspliced and spliced counts.
    explained
        Share of the changes along the shared directions that the models explain, of shape (genes,), at most one;
        negative where they say worse than no motion how the gene changes.
    gradual_slope
        Of the line of the cells, unspliced by spliced counts, that do not change by the model of gradual transcription
        alone, of shape (genes,). NaN where the cells do not say.
    """

    evidence: Float[Any, "genes 5"]
    factors: Float[Any, "genes 6"]
    explained: Float[Any, " genes"]
    gradual_slope: Float[Any, " genes"]


def gene_models(products: Float[Any, "genes 6 6"], slope: Float[Any, " genes"], n_independent: float) -> GeneModels:
    r"""Weigh the models of genes by their evidence.

    The velocities of the models are averaged with their probabilities, each with the posterior mean of its size. Of the
    changes :math:`d` along the shared directions, a true velocity would leave a quarter unexplained, by their own
    errors. What the models leave beyond that, in the median of the genes, is theirs, and the velocity goes towards
    :math:`d` as in a Kalman filter, :math:`v + K (d - v)`, with :math:`K = 1 - 0.25 / \text{unexplained}`.

    Parameters
    ----------
    products
        Mean products over cells of: change along the shared directions, velocities of the curve, of induction and of
        repression, unspliced and spliced counts, all in units of the deviation of the spliced counts; of shape
        (genes, 6, 6). A gene whose products are not all finite has no part in what is found of the others; it gets
        NaN for evidence and share explained, and the velocity of the curve.
    slope
        Of the line of steady states, of shape (genes,).
    n_independent
        Number of independent cells.

    Returns
    -------
    GeneModels
        Differentiable for JAX arrays; NumPy arrays are computed with NumPy. Where nothing moves along the shared
        directions, the velocity is that of the curve, the evidence NaN, and nothing is explained.
    """
    xp = products.__array_namespace__()
    unit = xp.eye(6, dtype=products.dtype)
    finite = xp.all(xp.isfinite(products), axis=(1, 2)) & xp.isfinite(slope)
    products = xp.where(finite[:, None, None], products, unit[None])
    slope = xp.where(finite, slope, 1.0)
    total = products[:, 0, 0]
    moves = finite & (total > 0)
    total = xp.where(moves, total, 1.0)
    line = unit[4][None] - slope[:, None] * unit[5][None]
    models = xp.stack([*(xp.broadcast_to(unit[i][None], line.shape) for i in (1, 2, 3)), line], axis=1)
    squared = xp.einsum("gmp,gpq,gmq->gm", models, products, models)
    both = xp.sqrt(_positive(xp, products[:, 4, 4])) + xp.abs(slope) * xp.sqrt(_positive(xp, products[:, 5, 5]))
    has_line = squared[:, 3] > xp.square(LEAST_LINE * both)
    has_velocity = xp.concatenate([squared[:, :3] > 0, has_line[:, None]], axis=1)
    size = xp.sqrt(xp.where(has_velocity, squared, 1.0))
    models = xp.where(has_velocity[..., None], models, 0.0)
    models = models / size[..., None]
    along = xp.einsum("gmp,gp->gm", models, products[:, 0])
    typical = xp.where(finite, xp.maximum(xp.max(along, axis=1), 0.0), 0.0)
    typical = xp.sum(typical) / xp.maximum(xp.sum(finite.astype(products.dtype)), 1.0)
    moves = moves & (typical > 0)
    # Those that have a say in what is common to all genes.
    counted = moves | ~xp.any(moves)
    typical = xp.where(typical > 0, typical, 1.0)
    noise = _noise(xp, products, total, n_independent)
    precision = n_independent / noise

    # One parameter: its size.
    before = 1 / xp.square(SIZE_DEVIATION * typical)
    after = precision[:, None] + before
    mean = (precision[:, None] * along + before * typical) / after
    gain = precision[:, None] * (2 * mean * along - xp.square(mean)) - before * xp.square(mean - typical)
    gain = 0.5 * (gain - xp.log(after / before))[:, :3]
    factors = xp.maximum(mean, 0.0)[:, :3, None] * models[:, :3]

    gradual, of_gradual = _gradual(xp, products, slope, size[:, 3], precision, typical)
    factors = xp.concatenate([factors, gradual[:, None]], axis=1)
    gradual = xp.where(has_line[:, None], gradual, 0.0)
    has_slope = moves & (gradual[:, 4] > 0)
    gradual_slope = xp.where(has_slope, -gradual[:, 5] / xp.where(has_slope, gradual[:, 4], 1.0), np.nan)
    of_gradual = xp.where(has_line, of_gradual, -np.inf)
    gain = xp.concatenate([gain, of_gradual[:, None], xp.zeros_like(of_gradual)[:, None]], axis=1)
    evidence = xp.exp(gain - xp.max(gain, axis=1)[:, None])
    evidence = evidence / xp.sum(evidence, axis=1)[:, None]

    weight = evidence[:, :4] / xp.maximum(xp.sum(evidence[:, :4], axis=1), 1e-30)[:, None]
    mixed = xp.sum(weight[..., None] * factors, axis=1)
    left = total - 2 * xp.einsum("gp,gp->g", mixed, products[:, 0])
    left = (left + xp.einsum("gp,gpq,gq->g", mixed, products, mixed)) / total
    unexplained = xp.maximum(_median(xp, left, counted), 1 - TRUE_SHARE)
    neighbors = 1 - (1 - TRUE_SHARE) / unexplained
    mixed = (1 - neighbors) * mixed + neighbors * unit[0][None]
    factors = _in_unit_of_curve(xp, mixed, products, counted)
    factors = xp.where(moves[:, None], factors, unit[1][None])
    explained = xp.where(finite, xp.where(moves, 1 - left, 0.0), np.nan)
    return GeneModels(xp.where(moves[:, None], evidence, np.nan), factors, explained, gradual_slope)


def _noise(
    xp: Any, products: Float[Any, "genes 6 6"], total: Float[Any, " genes"], n_independent: float
) -> Float[Any, " genes"]:
    """Variance of the changes about what curve, unspliced and spliced counts can say of them, however combined."""
    keep = np.array([1, 4, 5])
    matrix, right = products[:, keep][:, :, keep], products[:, keep, 0]
    squared = xp.einsum("gpp->gp", matrix)
    size = xp.sqrt(xp.where(squared > 0, squared, 1.0))
    matrix = matrix / (size[:, :, None] * size[:, None, :]) + 1e-5 * xp.eye(3, dtype=products.dtype)[None]
    right = right / size
    best = xp.linalg.solve(matrix, right[..., None])[..., 0]
    left = total - xp.einsum("gp,gp->g", right, best)
    return xp.maximum(left, LEAST_NOISE * total) * n_independent / max(n_independent - 3, 1.0)


def _gradual(
    xp: Any,
    products: Float[Any, "genes 6 6"],
    slope: Float[Any, " genes"],
    size: Float[Any, " genes"],
    precision: Float[Any, " genes"],
    typical: Float[Any, ""],
) -> tuple[Float[Any, "genes 6"], Float[Any, " genes"]]:
    """Factors of the gradual model, and the logarithm of its marginal likelihood less that of no motion.

    In units of what one expects, the parameters are one with the standard deviations of the prior: the rate of
    splicing, and the slope.
    """
    expected = typical / size
    zero = xp.zeros_like(slope)
    # Velocity is expected * (a (u - k s) - b k s), a about one, b about zero.
    first = xp.stack([zero, zero, zero, zero, expected, -expected * slope], axis=1)
    second = xp.stack([zero, zero, zero, zero, zero, -expected * slope], axis=1)
    basis = xp.stack([SIZE_DEVIATION * first, SLOPE_DEVIATION * second], axis=1)
    right = xp.einsum("gip,gp->gi", basis, products[:, 0] - xp.einsum("gpq,gq->gp", products, first))
    matrix = xp.einsum("gip,gpq,gjq->gij", basis, products, basis) * precision[:, None, None]
    matrix = matrix + xp.eye(2, dtype=products.dtype)[None]
    right = right * precision[:, None]
    determinant = matrix[:, 0, 0] * matrix[:, 1, 1] - xp.square(matrix[:, 0, 1])
    a = (matrix[:, 1, 1] * right[:, 0] - matrix[:, 0, 1] * right[:, 1]) / determinant
    b = (matrix[:, 0, 0] * right[:, 1] - matrix[:, 0, 1] * right[:, 0]) / determinant
    at_first = 2 * xp.einsum("gp,gp->g", first, products[:, 0]) - xp.einsum("gp,gpq,gq->g", first, products, first)
    gain = 0.5 * (precision * at_first + a * right[:, 0] + b * right[:, 1] - xp.log(determinant))
    factors = first + a[:, None] * basis[:, 0] + b[:, None] * basis[:, 1]
    # Neither rate is negative.
    signs = xp.asarray(np.array([0.0, 0, 0, 0, 1, -1]), dtype=products.dtype)[None]
    return signs * xp.maximum(signs * factors, 0.0), gain


def _in_unit_of_curve(
    xp: Any, factors: Float[Any, "genes 6"], products: Float[Any, "genes 6 6"], counted: Bool[Any, " genes"]
) -> Float[Any, "genes 6"]:
    """Bring velocities to the curves' unit of time, in the median of the genes."""
    size = xp.sqrt(_positive(xp, xp.einsum("gp,gpq,gq->g", factors, products, factors)))
    return factors * _median(xp, xp.sqrt(_positive(xp, products[:, 1, 1])) / size, counted)


def _median(xp: Any, values: Float[Any, " genes"], counted: Bool[Any, " genes"]) -> Float[Any, ""]:
    """Median of the genes that are counted, at least one."""
    return xp.nanmedian(xp.where(counted, values, np.nan))


def _positive(xp: Any, squared: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    """Mean squares, and a small number instead of zero."""
    return xp.maximum(squared, 1e-20)


def steady_slopes(
    unspliced: Float[np.ndarray, "cells genes"], spliced: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, " genes"]:
    """Slopes of the lines through the origin and the cells that are highest in both kinds of counts."""
    slopes = np.empty(spliced.shape[1], dtype=spliced.dtype)
    for genes in gene_blocks(*spliced.shape):
        u, s = unspliced[:, genes], spliced[:, genes]
        height = u / _positive(np, u.max(axis=0)) + s / _positive(np, s.max(axis=0))
        used = height >= np.quantile(height, 1 - EXTREME, axis=0)
        across = np.sum(u * s, axis=0, where=used)
        slopes[genes] = across / _positive(np, np.sum(np.square(s), axis=0, where=used))
    return slopes


def fit_gene_models(
    kinetics: SplicingKinetics,
    times: Sequence[Float[np.ndarray, "cells genes"]],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
) -> tuple[GeneModels, Float[np.ndarray, "cells genes"]]:
    """Weigh the models of genes that have a curve, and compute their velocities.

    Parameters
    ----------
    kinetics
        Rates of the curves, finite, NumPy arrays of the type of the moments, as all others.
    times
        Three: times since the last switch on both branches, and probabilities of the first, of shape (cells, genes),
        finite.
    unspliced, spliced
        First moments, of shape (cells, genes).
    weights
        Result of :func:`neighborhood_weights`.

    Returns
    -------
    tuple
        :class:`GeneModels` in double precision, and velocities of shape (cells, genes): change of the spliced counts
        per unit of time, one for all genes, which is that of the curves in the median of the genes. With fewer than
        five independent cells, there is no evidence, and the velocities are those of the curves. So they are for each
        gene whose evidence is NaN.
    """
    n_cells, n_genes = spliced.shape
    deviation = np.maximum(spliced.std(axis=0), np.finfo(spliced.dtype).tiny)
    slope = steady_slopes(unspliced, spliced).astype(float)
    velocity = np.empty(spliced.shape, dtype=spliced.dtype)

    def by_genes(function: Callable[[slice], None]) -> None:
        size = max(1, GENES_AT_ONCE // n_workers())
        with worker_threads(n_workers()) as submit:
            for first in range(0, n_genes, size):
                submit(function, slice(first, first + size))

    def branches(genes: slice) -> list[np.ndarray]:
        rates = jax.tree.map(lambda rate: rate[genes], kinetics)
        on, off = rates.branch_velocities(times[0][:, genes], times[1][:, genes])
        return [on[0], off[0]]

    def curve(genes: slice, induction: np.ndarray, repression: np.ndarray) -> np.ndarray:
        probability = times[2][:, genes]
        return probability * induction + (1 - probability) * repression

    def follow_curve(genes: slice) -> None:
        velocity[:, genes] = curve(genes, *branches(genes))

    def start(genes: slice) -> None:
        """From the curve and the steady states, each of the same size for all genes."""
        line = weights @ (unspliced[:, genes] - slope[genes].astype(spliced.dtype) * spliced[:, genes])
        found = curve(genes, *branches(genes)), line
        parts = (x / np.sqrt(_positive(np, np.mean(np.square(x), axis=0))) for x in found)
        both = sum(parts) * deviation[genes]
        # One gene that is not finite would leave no direction to any cell.
        velocity[:, genes] = np.where(np.isfinite(both).all(axis=0), both, 0)

    n_independent = n_cells / (NEIGHBORHOODS * max(weights.nnz / n_cells, 1.0))
    if n_independent < LEAST_INDEPENDENT:
        by_genes(follow_curve)
        factors = np.broadcast_to(np.eye(6)[1], (n_genes, 6)).copy()
        nothing = np.full(n_genes, np.nan)
        return GeneModels(np.full((n_genes, 5), np.nan), factors, nothing, nothing), velocity

    by_genes(start)
    directions = shared_directions(velocity, spliced, weights).astype(spliced.dtype)

    def things(genes: slice) -> list[np.ndarray]:
        u, s, on_branches = weights @ unspliced[:, genes], weights @ spliced[:, genes], branches(genes)
        return [directions @ s, curve(genes, *on_branches), *on_branches, weights @ u, weights @ s]

    products = np.empty((n_genes, 6, 6))

    def multiply(genes: slice) -> None:
        # In double precision: velocities on a line are small differences of counts.
        found = np.stack(things(genes)).transpose(2, 0, 1).astype(float) / deviation[genes, None, None]
        products[genes] = found @ found.transpose(0, 2, 1) / n_cells

    by_genes(multiply)
    models = gene_models(products, slope, n_independent)

    def combine(genes: slice) -> None:
        velocity[:, genes] = sum(
            factor.astype(spliced.dtype) * thing
            for factor, thing in zip(models.factors[genes].T, things(genes), strict=True)
        )

    by_genes(combine)
    return models, velocity
