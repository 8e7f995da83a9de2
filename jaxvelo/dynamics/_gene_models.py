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

from jaxvelo.dynamics._gene_blocks import cells_together, gene_blocks
from jaxvelo.dynamics._shared_directions import DirectionSums
from jaxvelo.dynamics._splicing import SplicingKinetics
from jaxvelo.graph._threads import n_workers, worker_threads

GRADUAL = "gradual"
"""Name of the model in which transcription changes in an unknown way."""
MODELS = ("curve", "induction", "repression", GRADUAL)
"""Names of the models of a gene, in the order of their evidence."""
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

    Examples
    --------
    >>> products = np.broadcast_to(np.eye(6) + 0.5, (3, 6, 6))
    >>> models = jv.dynamics.gene_models(products, np.ones(3), n_independent=50)
    >>> models.evidence.shape, models.factors.shape, models.evidence.sum(axis=1).round(6).tolist()
    ((3, 5), (3, 6), [1.0, 1.0, 1.0])
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

    Examples
    --------
    >>> shared, induction = np.eye(6)[[0, 2]]  # one gene, whose induction alone goes where its neighbours go
    >>> products = (np.eye(6) + 0.9 * (np.outer(shared, induction) + np.outer(induction, shared)))[None]
    >>> models = jv.dynamics.gene_models(products, np.ones(1), n_independent=50)
    >>> jv.dynamics.MODELS[models.evidence[0, :4].argmax()], round(float(models.explained[0]), 1)
    ('induction', 0.8)
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
    r"""Slopes of the lines through the origin and the cells that are highest in both kinds of counts.

    .. math:: k = \frac{\sum_{i \in E} u_i s_i}{\sum_{i \in E} s_i^2}

    over the tenth :math:`E` of the cells with the largest :math:`u / \max u + s / \max s`: in the steady state,
    :math:`k = \gamma / \beta` times the scaling of the unspliced counts (La Manno et al. 2018).

    Parameters
    ----------
    unspliced, spliced
        First moments, of shape (cells, genes).

    Returns
    -------
    numpy.ndarray
        Unspliced per spliced counts, of shape (genes,); 0 for genes without unspliced or without spliced counts.

    Examples
    --------
    >>> u, s = np.array([[0.0], [0.9], [1.0]]), np.array([[0.0], [1.0], [2.0]])
    >>> jv.dynamics.steady_slopes(u, s).tolist()
    [0.5]
    """
    slopes = np.empty(spliced.shape[1], dtype=spliced.dtype)
    for genes in gene_blocks(*spliced.shape):
        u, s = (cells_together(x[:, genes]) for x in (unspliced, spliced))
        height = u / _positive(np, u.max(axis=0)) + s / _positive(np, s.max(axis=0))
        used = height >= np.quantile(height, 1 - EXTREME, axis=0)
        across = np.where(used, u * s, 0).sum(axis=0)
        slopes[genes] = across / _positive(np, np.where(used, np.square(s), 0).sum(axis=0))
    return slopes


def fit_gene_models(
    kinetics: SplicingKinetics,
    times: Sequence[Float[np.ndarray, "cells genes"]],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
) -> tuple[GeneModels, Float[np.ndarray, "cells genes"]]:
    r"""Weigh the models of genes that have a curve, and compute their velocities.

    The change :math:`d_g` of a gene along the :func:`shared_directions` is what its velocity by a model :math:`m` is
    to explain, :math:`d_g = c\, v_{gm} + \text{noise}`; with the evidence :math:`p(m | d_g)` of the models of
    :data:`MODELS`, see :func:`gene_models`, the velocity is

    .. math:: v_g = \sum_m p(m | d_g) \, \mathbb{E}[c \mid m, d_g] \, v_{gm},

    and goes towards :math:`d_g` as far as the models leave more of it unexplained than its own errors would.

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

    Examples
    --------
    >>> kinetics = jv.dynamics.SplicingKinetics(*np.array([[2.0], [1.0], [0.5], [3.0], [1.0]]))
    >>> t = np.linspace(0, 6, 60)[:, None]
    >>> times = np.minimum(t, 3.0), np.maximum(t - 3.0, 0.0), (t < 3.0).astype(float)
    >>> u, s = (np.asarray(moments, float) for moments in kinetics.state(t))
    >>> weights = jv.dynamics.neighborhood_weights(sp.diags([1.0, 1.0], [-1, 1], (60, 60)))
    >>> models, velocity = jv.dynamics.fit_gene_models(kinetics, times, u, s, weights)
    >>> models.evidence.shape, velocity.shape, bool(velocity[20, 0] > 0 > velocity[45, 0])
    ((1, 5), (60, 1), True)
    """
    every = slice(0, spliced.shape[1])
    arrays = (*times, unspliced, spliced)
    models, velocity_of = fit_gene_models_in_parts(kinetics, [every], lambda _: arrays, weights, GENES_AT_ONCE)
    return models, velocity_of(every)


def fit_gene_models_in_parts(
    kinetics: SplicingKinetics,
    parts: Sequence[slice],
    read: Callable[[slice], Sequence[Float[np.ndarray, "cells part"]]],
    weights: sp.csr_matrix,
    at_once: int,
) -> tuple[GeneModels, Callable[[slice], Float[np.ndarray, "cells part"]]]:
    r""":func:`fit_gene_models` of genes of which some at a time are in memory.

    Of all that enters, :math:`6 \times 6` products for each gene and the directions are held.

    Parameters
    ----------
    kinetics
        Rates of all genes.
    parts
        Genes that are read at a time, one part after another.
    read
        Gives of a part the three times, unspliced and spliced moments, of shape (cells, part). It is called twice for
        each, and for velocities.
    weights
        Result of :func:`neighborhood_weights`.
    at_once
        Number of genes of which what is computed on the way is held at a time, by all threads together, at most.

    Returns
    -------
    tuple
        :class:`GeneModels` of all genes, and a function that gives the velocities of a part. How genes are parted
        changes the shared directions alone, by the last bit of double precision, before they are rounded to the type
        of the moments.

    Examples
    --------
    >>> kinetics = jv.dynamics.SplicingKinetics(*np.array([[2.0], [1.0], [0.5], [3.0], [1.0]]))
    >>> t = np.linspace(0, 6, 60)[:, None]
    >>> u, s = (np.asarray(moments, float) for moments in kinetics.state(t))
    >>> cells = np.minimum(t, 3.0), np.maximum(t - 3.0, 0.0), (t < 3.0).astype(float), u, s
    >>> weights = jv.dynamics.neighborhood_weights(sp.diags([1.0, 1.0], [-1, 1], (60, 60)))
    >>> models, velocity_of = jv.dynamics.fit_gene_models_in_parts(
    ...     kinetics, [slice(0, 1)], lambda part: [of_cells[:, part] for of_cells in cells], weights, at_once=1
    ... )
    >>> models.evidence.shape, velocity_of(slice(0, 1)).shape
    ((1, 5), (60, 1))
    """
    n_genes, n_cells = len(kinetics.alpha), weights.shape[0]
    n_independent = n_cells / (NEIGHBORHOODS * max(weights.nnz / n_cells, 1.0))

    at_once = min(at_once, GENES_AT_ONCE)

    def genes_of(part: slice) -> _Genes:
        return _Genes(jax.tree.map(lambda rate: rate[part], kinetics), read(part), weights, at_once)

    def of_curve(part: slice) -> np.ndarray:
        genes = genes_of(part)
        return genes.map(genes.curve)

    if n_independent < LEAST_INDEPENDENT:
        factors = np.broadcast_to(np.eye(6)[1], (n_genes, 6)).copy()
        nothing = np.full(n_genes, np.nan)
        return GeneModels(np.full((n_genes, 5), np.nan), factors, nothing, nothing), of_curve

    slope, deviation = np.empty(n_genes), np.empty(n_genes)
    sums = DirectionSums(weights)
    for part in parts:
        genes = genes_of(part)
        slope[part], deviation[part] = steady_slopes(genes.unspliced, genes.spliced), genes.deviation()
        start = genes.map(genes.start, slope[part], deviation[part])
        sums.add(start, genes.spliced)
        del genes, start
    directions = sums.directions().astype(kinetics.alpha.dtype)
    products = np.empty((n_genes, 6, 6))
    for part in parts:
        genes = genes_of(part)
        genes.each(genes.multiply, directions, deviation[part], products[part])
        del genes
    models = gene_models(products, slope, n_independent)

    def of_models(part: slice) -> np.ndarray:
        genes = genes_of(part)
        return genes.map(genes.combine, directions, models.factors[part])

    return models, of_models


class _Genes:
    """Some genes of all cells, and what is computed of a few of them at a time.

    Parameters
    ----------
    kinetics
        Their rates.
    arrays
        Three times, unspliced and spliced moments, of shape (cells, genes).
    weights, at_once
        As of :func:`fit_gene_models_in_parts`.
    """

    def __init__(
        self,
        kinetics: SplicingKinetics,
        arrays: Sequence[Float[np.ndarray, "cells genes"]],
        weights: sp.csr_matrix,
        at_once: int,
    ):
        self._kinetics, self._weights, self._at_once = kinetics, weights, at_once
        *self._times, self.unspliced, self.spliced = arrays

    def each(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function of some genes and other arguments for all genes, in threads."""
        n_threads = min(n_workers(), self._at_once)
        size = max(1, self._at_once // n_threads)
        with worker_threads(n_threads) as submit:
            for first in range(0, self.spliced.shape[1], size):
                submit(function, slice(first, first + size), *arguments)

    def map(self, function: Callable[..., Float[np.ndarray, "cells some"]], *arguments: Any) -> np.ndarray:
        """Results, of shape (cells, some genes), for all genes."""
        result = np.empty(self.spliced.shape, dtype=self.spliced.dtype)

        def put(genes: slice) -> None:
            result[:, genes] = function(genes, *arguments)

        self.each(put)
        return result

    def deviation(self) -> Float[np.ndarray, " genes"]:
        """Standard deviations of the spliced counts."""
        result = np.empty(self.spliced.shape[1])
        for genes in gene_blocks(*self.spliced.shape):
            result[genes] = cells_together(self.spliced[:, genes]).std(axis=0)
        return np.maximum(result, np.finfo(self.spliced.dtype).tiny)

    def branches(self, genes: slice) -> list[np.ndarray]:
        """Velocities of both branches of the curve."""
        rates = jax.tree.map(lambda rate: rate[genes], self._kinetics)
        on, off = rates.branch_velocities(self._times[0][:, genes], self._times[1][:, genes])
        return [on[0], off[0]]

    def curve(self, genes: slice, branches: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Velocities of the curve."""
        induction, repression = self.branches(genes) if branches is None else branches
        probability = self._times[2][:, genes]
        return probability * induction + (1 - probability) * repression

    def start(self, genes: slice, slope: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """From the curve and the steady states, each of the same size for all genes."""
        slope, deviation = (x[genes].astype(self.spliced.dtype) for x in (slope, deviation))
        line = self._weights @ (self.unspliced[:, genes] - slope * self.spliced[:, genes])
        both = sum(
            x / np.sqrt(_positive(np, np.mean(np.square(cells_together(x)), axis=0))) for x in (self.curve(genes), line)
        )
        both = both * deviation
        # One gene that is not finite would leave no direction to any cell.
        return np.where(np.isfinite(both).all(axis=0), both, 0)

    def things(self, genes: slice, directions: sp.csr_matrix) -> list[np.ndarray]:
        """What velocities are made of: change along the shared directions, curve, both branches, averaged counts."""
        u, s = self._weights @ self.unspliced[:, genes], self._weights @ self.spliced[:, genes]
        branches = self.branches(genes)
        return [directions @ s, self.curve(genes, branches), *branches, self._weights @ u, self._weights @ s]

    def multiply(self, genes: slice, directions: sp.csr_matrix, deviation: np.ndarray, products: np.ndarray) -> None:
        """Mean products of these over the cells, in units of the deviation, into an array of (genes, 6, 6)."""
        things = self.things(genes, directions)
        for i, gene in enumerate(range(len(products))[genes]):
            # In double precision: velocities on a line are small differences of counts.
            found = np.stack([x[:, i] for x in things]).astype(float) / deviation[gene]
            products[gene] = np.einsum("pn,qn->pq", found, found) / found.shape[1]

    def combine(self, genes: slice, directions: sp.csr_matrix, factors: np.ndarray) -> np.ndarray:
        """Velocities, as sums of these."""
        things = self.things(genes, directions)
        return sum(factor.astype(self.spliced.dtype) * x for factor, x in zip(factors[genes].T, things, strict=True))
