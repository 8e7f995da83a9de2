r"""The dynamical model of all genes: rates, switching times, scalings and the times of the cells.

Per gene, in units of the standard deviations of its counts, a curve is fitted to the cells (see
``_phase_curve`` for its four parameters and ``_curve_fit`` for the fit). What decides whether rates come out right is
not how close the curve can get to the cells: a curve free to use both of its branches for noise on both sides of one
comes closer and is wrong. Therefore

1. the curve is first fitted to moments averaged over the neighbours once more, with unspliced and spliced weighted
   by their noise, from six starts, with a normal prior on :math:`\log g` and :math:`\log T`;
2. then to the moments themselves, with each cell on the branch that its neighbourhood agrees on, if it does, and
   close to the ratio and the switching time of the first fit;
3. then, with all branches free again, to the same moments: its size may change, its scaling a little, ratio and
   switching time hardly, so that the curve comes nearer to the cells without telling other rates;
4. cells get times on both branches, and the probability that the gene is on.

The constants below were chosen on simulated data with known rates and on known directions in the pancreas.
"""

from collections.abc import Callable
from concurrent.futures import Future

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from jaxvelo.dynamics._blocks import N_GENES
from jaxvelo.dynamics._cell_times import OnBranch, compile_nearest_in_blocks, nearest_in_blocks
from jaxvelo.dynamics._curve_fit import DEVICE_N_PROBLEMS, FREE, N_PROBLEMS, OFF, ON, CurveFit, Prior, fit_curves
from jaxvelo.dynamics._gene_blocks import cells_together
from jaxvelo.dynamics._gene_likelihood import gene_likelihood
from jaxvelo.dynamics._phase_bins import N_POINTS, Points, phase_bins
from jaxvelo.dynamics._phase_curve import LOWER, UPPER
from jaxvelo.dynamics._second_peak import second_peak_p_values
from jaxvelo.dynamics._splicing import SplicingKinetics
from jaxvelo.dynamics._typical_cells import typical_cells
from jaxvelo.graph._blocks import on_cpu
from jaxvelo.graph._threads import n_workers, worker_threads

# Of log g and log T: what one expects before seeing a gene.
PRIOR_MEAN = np.array([0.0, 0.0, -0.6, 1.3])
PRIOR_DEVIATION = np.array([np.inf, np.inf, 0.5, 0.2])
# How far the fit to the moments themselves may go from that to the smoother ones.
REFIT_DEVIATION = np.array([np.inf, np.inf, 0.2, 0.1])
# How far the last fit, with free branches, may go from that with agreed ones; and in the logarithm of the scaling.
LAST_DEVIATION, LAST_SCALING_DEVIATION = np.array([0.2, 0.2, 0.02, 0.02]), 0.06
# Starts: ratios g, each with a long and a short switching time.
START_RATIOS = (0.4, 3.0)
FIRST_ITERATIONS, REFITS, LAST_ITERATIONS = 8, 2, 5
# Of all steps, the part that each refit takes.
REFIT_SHARE = 0.6
# Logarithm of the scaling from those of U, S, g, T, in units of the deviations.
SCALING = np.array([1.0, -1.0, -1.0, 0.0])
# A neighbourhood agrees on a branch if its mean squared distance to the other is larger by this factor.
CLEAR = 1.8
# Neighbouring cells share most of their moments: as evidence for a branch, their mean squared distance counts a fifth.
EVIDENCE = 0.2
# Fewer cells with unspliced and spliced counts say nothing about four parameters.
LEAST_CELLS_OF_GENE = 10
# Neither do counts whose standard deviation is smaller than that, relative to the largest.
LEAST_DEVIATION = 1e-5
# Genes of a batch, at most.
MOST_GENES = 256
# Arrays of the size of a batch of genes that are alive at the same time, at most.
ARRAYS_PER_BATCH = 24
CONVERGED, AT_BOUND, NOT_CONVERGED, TOO_FEW_CELLS, FAILED = (
    "converged",
    "at a bound",
    "not converged",
    "too few cells",
    "failed",
)


class DynamicalFit(eqx.Module):
    r"""Fit of the dynamical model. Genes without a fit have NaN everywhere but in ``status``.

    Attributes
    ----------
    kinetics
        Rates in units of :math:`1/\beta` of each gene (``beta`` is one), see :func:`align_total_time`.
    time
        Time since the gene was switched on, averaged over neighbours, of shape (cells, genes), in that unit.
    time_on, time_off
        Times since the last switch, of the nearest points on both branches, averaged over neighbours, of shape
        (cells, genes).
    probability_on
        Probability that the gene is on, of shape (cells, genes):
        :math:`1 / (1 + e^{0.2 (d_{on} - d_{off}) / d}`), with the squared distances to both branches, averaged over
        neighbours, and the mean squared distance :math:`d` of the gene.
    deviation
        Standard deviations of unspliced and spliced counts, of shape (2, genes), over the cells that have both and are
        not among the top percent of either. They are the units of all distances.
    residual
        Mean squared distance of the cells to the curve, of shape (genes,).
    likelihood, variance
        Likelihood of the gene and the variance in it, of shape (genes,), see :func:`gene_likelihood`.
    covariance
        Covariance (Laplace) of :math:`(\log U, \log S, \log g, \log T)`, of shape (genes, 4, 4), with
        :math:`U = \alpha/\beta` times the scaling, :math:`S = \alpha/\gamma`, :math:`g = \gamma/\beta`, and
        :math:`T = \beta` times the switching time.
    steady_p_value
        P-value of the counts having no second peak, of cells in the steady state, of shape (genes,), see
        :func:`second_peak_p_values`.
    status
        ``"converged"``, ``"at a bound"``, ``"not converged"``, ``"too few cells"`` or ``"failed"``, of shape (genes,).

    Examples
    --------
    >>> weights = jv.dynamics.neighborhood_weights(adata.obsp["connectivities"])
    >>> fit = jv.dynamics.fit_dynamics(np.asarray(unspliced[:, :2]), np.asarray(spliced[:, :2]), weights, iterations=5)
    >>> fit.kinetics.gamma.shape, fit.time.shape, fit.covariance.shape
    ((2,), (150, 2), (2, 4, 4))
    """

    kinetics: SplicingKinetics
    time: Float[np.ndarray, "cells genes"]
    time_on: Float[np.ndarray, "cells genes"]
    time_off: Float[np.ndarray, "cells genes"]
    probability_on: Float[np.ndarray, "cells genes"]
    deviation: Float[np.ndarray, "2 genes"]
    residual: Float[np.ndarray, " genes"]
    likelihood: Float[np.ndarray, " genes"]
    variance: Float[np.ndarray, " genes"]
    covariance: Float[np.ndarray, "genes 4 4"]
    steady_p_value: Float[np.ndarray, " genes"]
    status: np.ndarray


def genes_per_batch(n_cells: int, memory: float, itemsize: int = 4) -> int:
    r"""Number of genes whose arrays fit into the memory.

    .. math:: \left\lfloor \frac{\text{memory}}{24 \cdot n_\text{cells} \cdot \text{itemsize}} \right\rfloor,

    at least 1 and at most 256: a batch has at most 24 arrays of its size.

    Parameters
    ----------
    n_cells
        Number of cells.
    memory
        Memory in bytes.
    itemsize
        Bytes of one number.

    Returns
    -------
    int
        Number of genes.

    Examples
    --------
    >>> jv.dynamics.genes_per_batch(n_cells=100_000, memory=2**30)
    111
    """
    return int(np.clip(memory // (n_cells * itemsize * ARRAYS_PER_BATCH), 1, MOST_GENES))


def fit_dynamics(
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    weights: sp.csr_matrix,
    *,
    iterations: int = 20,
    scaling: float | None = None,
    memory: float = 2**30,
    report: Callable[[int], object] | None = None,
) -> DynamicalFit:
    r"""Fit the dynamical model to all genes.

    Unspliced and spliced counts of a gene that is switched on at time 0 and off at time :math:`T` follow

    .. math:: \dot u = \alpha(t) - \beta u, \qquad \dot s = \beta u - \gamma s, \qquad
              \alpha(t) = \alpha \, [t < T],

    see :func:`splicing_solution`. Rates, :math:`T`, the scaling of the unspliced counts and the times of the cells are
    those that bring the curve nearest to the cells, with a prior on :math:`\gamma / \beta` and :math:`\beta T`.

    Parameters
    ----------
    unspliced, spliced
        First moments of shape (cells, genes), finite and not negative.
    weights
        Result of :func:`neighborhood_weights`, of shape (cells, cells).
    iterations
        Steps of the first fit of a gene, at least 5; each of the two refits takes 0.6 times as many, and
        at least 5 too.
    scaling
        Fixed scaling between unspliced and spliced counts; fitted if None.
    memory
        Bytes for the arrays of the batches of genes that are fitted at a time, one on each core; results come on top.
    report
        Called with the number of genes whenever some are done.

    Returns
    -------
    DynamicalFit
        Of all genes.

    References
    ----------
    Bergen et al. (2020) for the model; the fit is another one.

    Examples
    --------
    >>> weights = jv.dynamics.neighborhood_weights(adata.obsp["connectivities"])
    >>> fit = jv.dynamics.fit_dynamics(np.asarray(unspliced[:, :2]), np.asarray(spliced[:, :2]), weights)
    >>> fit.status.tolist(), fit.probability_on.shape
    (['converged', 'converged'], (150, 2))
    """
    dtype = np.result_type(unspliced.dtype, np.float32)
    n_cells, n_genes = unspliced.shape
    curves = np.full((n_genes, 4), np.nan)
    fit = _empty_fit(n_cells, n_genes, dtype)
    usable = np.zeros(n_genes, dtype=bool)

    def fit_genes(first: int) -> int:
        batch = slice(first, min(first + batch_size, n_genes))
        u, s = np.asarray(unspliced[:, batch], dtype=dtype), np.asarray(spliced[:, batch], dtype=dtype)
        deviation, used = standard_deviations(u, s)
        genes = np.flatnonzero(used)
        usable[batch] = used
        if len(genes):
            u, s = u[:, genes] / deviation[0, genes], s[:, genes] / deviation[1, genes]
            columns = first + genes
            curves[columns] = _fit_batch(
                fit, columns, u, s, deviation[:, genes], weights, iterations, scaling, compiled
            )
        return batch.stop - batch.start

    n_threads = _n_threads(genes_per_batch(n_cells, memory, dtype.itemsize))
    batch_size = genes_per_batch(n_cells, memory / n_threads, dtype.itemsize)
    # Sorting, sparse products and compiled programs all release Python's lock. Batches are small, so that cores end
    # together, but whole blocks.
    batch_size = _whole_blocks(min(batch_size, max(N_GENES, n_genes // (4 * n_threads))))
    with worker_threads(n_threads) as submit:
        # Once, and not by each of the threads that come to them first; these prepare genes meanwhile.
        compiled = [submit(_compile_fit, dtype), submit(compile_nearest_in_blocks, dtype)]
        p_values = submit(second_peak_p_values, unspliced, spliced, scaling)
        for batch in [submit(fit_genes, first) for first in range(0, n_genes, batch_size)]:
            n_done = batch.result()
            if report is not None:
                report(n_done)
    fit.status[~usable] = TOO_FEW_CELLS
    fit.steady_p_value[:] = np.where(np.isnan(curves[:, 0]), np.nan, p_values.result())
    level_u, level_s, ratio, switch = np.exp(curves.T)
    level_u, level_s = level_u * fit.deviation[0], level_s * fit.deviation[1]
    scalings = level_u / (level_s * ratio) if scaling is None else np.where(np.isnan(ratio), np.nan, scaling)
    kinetics = SplicingKinetics(
        alpha=(level_s * ratio).astype(dtype),
        beta=np.where(np.isnan(ratio), np.nan, 1.0).astype(dtype),
        gamma=ratio.astype(dtype),
        switching_time=switch.astype(dtype),
        scaling=scalings.astype(dtype),
    )
    return eqx.tree_at(lambda f: f.kinetics, fit, kinetics)


def _whole_blocks(n_genes: int) -> int:
    """Round down to blocks of genes, beyond the first: what a block lacks would be computed all the same."""
    return n_genes if n_genes < N_GENES else n_genes // N_GENES * N_GENES


def _n_threads(n_at_once: int) -> int:
    """Number of threads, for as many genes as fit into the memory: none with much less than a block."""
    return min(n_workers(), max(1, n_at_once // (N_GENES // 2)))


def _empty_fit(n_cells: int, n_genes: int, dtype: np.dtype) -> DynamicalFit:
    def empty(*shape: int) -> np.ndarray:
        return np.full(shape, np.nan, dtype=dtype)

    return DynamicalFit(
        kinetics=SplicingKinetics(*(empty(n_genes) for _ in range(5))),
        time=empty(n_cells, n_genes),
        time_on=empty(n_cells, n_genes),
        time_off=empty(n_cells, n_genes),
        probability_on=empty(n_cells, n_genes),
        deviation=empty(2, n_genes),
        residual=empty(n_genes),
        likelihood=empty(n_genes),
        variance=empty(n_genes),
        covariance=empty(n_genes, 4, 4),
        steady_p_value=np.full(n_genes, np.nan),
        status=np.full(n_genes, FAILED, dtype=object),
    )


def standard_deviations(
    u: Float[np.ndarray, "cells genes"], s: Float[np.ndarray, "cells genes"]
) -> tuple[Float[np.ndarray, "2 genes"], Bool[np.ndarray, " genes"]]:
    r"""Standard deviations of the typical cells of each gene, and which genes they will do for.

    .. math:: \sigma^2 = \frac{1}{|C|} \sum_{i \in C} (x_i - \bar x)^2

    over the cells :math:`C` that have both kinds of counts, neither among its top percent.

    Parameters
    ----------
    u, s
        First moments of unspliced and spliced counts, of shape (cells, genes).

    Returns
    -------
    deviation : numpy.ndarray
        Of unspliced and spliced counts, of shape (2, genes), in their units; NaN for genes with fewer than 10 cells
        that have both.
    usable : numpy.ndarray
        Whether a gene can be fitted, of shape (genes,): both deviations are more than 1e-5 of the largest counts. What
        varies less does so by rounding.

    References
    ----------
    The choice of cells is that of scVelo's ``recover_dynamics``; Bergen et al. (2020).

    Examples
    --------
    >>> u, s = np.linspace(1, 2, 21)[:, None], np.full((21, 1), 3.0)
    >>> deviation, usable = jv.dynamics.standard_deviations(u, s)
    >>> deviation.round(2).tolist(), usable.tolist()  # the spliced counts do not vary
    ([[0.29], [0.0]], [False])
    """
    deviation = np.full((2, u.shape[1]), np.nan, dtype=u.dtype)
    for gene, (x, y) in enumerate(zip(u.T, s.T, strict=True)):
        if np.count_nonzero((x > 0) & (y > 0)) < LEAST_CELLS_OF_GENE:
            continue
        used = typical_cells(x, y)
        deviation[:, gene] = np.std(x[used]), np.std(y[used])
    # What varies less than that does so by rounding.
    largest = np.stack([u.max(axis=0), s.max(axis=0)])
    return deviation, np.all(deviation > LEAST_DEVIATION * largest, axis=0)


def _fit_batch(
    fit: DynamicalFit,
    columns: Int[np.ndarray, " genes"],
    u: Float[np.ndarray, "cells genes"],
    s: Float[np.ndarray, "cells genes"],
    deviation: Float[np.ndarray, "2 genes"],
    weights: sp.csr_matrix,
    iterations: int,
    scaling: float | None,
    compiled: list[Future],
) -> Float[np.ndarray, "genes 4"]:
    """Fit some genes when the programs are compiled, write what belongs to them into the results; return curves."""
    n_cells = u.shape[0]
    # Neighbouring cells share most of their moments: that many are independent.
    n_independent = n_cells / max(weights.nnz / n_cells, 1.0)
    smooth_u, smooth_s = weights @ u, weights @ s
    # The model's counts are observed ones divided by these.
    units = None if scaling is None else np.log(scaling * deviation[1] / deviation[0])

    noise = [np.sqrt(np.mean(np.square(cells_together(x - y)), axis=0)) for x, y in ((u, smooth_u), (s, smooth_s))]
    precise = (noise[0] > 0) & (noise[1] > 0)
    unspliced_weight = np.where(precise, noise[1] / np.where(precise, noise[0], 1), 1).astype(u.dtype)
    weighted_u = smooth_u * unspliced_weight
    points, starts = phase_bins(weighted_u, smooth_s), _starts(weighted_u, smooth_s)
    for program in compiled:
        program.result()
    smooth = _fit_smooth(points, starts, iterations, n_independent, _shifted(units, unspliced_weight))
    curves = smooth.log_curve.copy()
    curves[:, 0] -= np.log(unspliced_weight)

    anchor, distance = curves, smooth.distance
    for _ in range(REFITS):
        branches = _agreed_branches(*nearest_in_blocks(curves, smooth_u, smooth_s), weights)
        points = phase_bins(u, s, branches)
        prior = _prior(anchor, REFIT_DEVIATION, distance, n_independent, units)
        refit = _run(curves, points, prior, np.arange(len(columns)), max(5, int(REFIT_SHARE * iterations)))
        curves, distance = refit.log_curve, refit.distance
    prior = _prior(curves, LAST_DEVIATION, distance, n_independent, units, LAST_SCALING_DEVIATION)
    curves = _run(curves, phase_bins(u, s), prior, np.arange(len(columns)), LAST_ITERATIONS).log_curve
    if units is not None:
        # The condition is stiff, but not hard.
        curves = np.concatenate([(units + curves[:, 1] + curves[:, 2])[:, None], curves[:, 1:]], axis=1)

    on, off = nearest_in_blocks(curves, smooth_u, smooth_s)
    difference = weights @ (on.distance - off.distance)
    is_on = weights @ difference <= 0
    time = np.where(is_on, on.time, np.exp(curves[:, 3]).astype(u.dtype) + off.time)
    fit.time[:, columns] = _smooth(time, weights)
    fit.time_on[:, columns], fit.time_off[:, columns] = weights @ on.time, weights @ off.time
    on, off = nearest_in_blocks(curves, u, s)
    residual = np.mean(cells_together(np.minimum(on.distance, off.distance)), axis=0)
    fit.residual[columns] = residual
    fit.probability_on[:, columns] = expit(-EVIDENCE * difference / np.maximum(residual, np.finfo(u.dtype).tiny))
    squared = np.where(is_on, on.distance, off.distance)
    signed_distance = np.sign(np.where(is_on, on.spliced_residual, off.spliced_residual)) * np.sqrt(squared)
    fit.variance[columns], fit.likelihood[columns] = gene_likelihood(*map(cells_together, (signed_distance, u, s)))
    fit.deviation[:, columns] = deviation
    fit.covariance[columns] = _covariance(refit, n_independent, free=units is None)
    fit.status[columns] = _status(refit, np.isfinite(fit.time[:, columns]).all(axis=0))
    return curves


def _compile_fit(dtype: np.dtype) -> None:
    """Compile the fit, which is of nothing here."""
    weights, branches = np.zeros((1, N_POINTS), dtype), np.zeros((1, N_POINTS), np.int32)
    nothing = Points(np.zeros((1, 2, N_POINTS), dtype), weights, branches)
    _run(np.zeros((1, 4)), nothing, Prior(np.zeros((1, 4)), np.zeros((1, 4, 4))), np.zeros(1, int), 5)


def _fit_smooth(
    points: Points,
    starts: Float[np.ndarray, "genes starts 4"],
    iterations: int,
    n_independent: float,
    units: Float[np.ndarray, " genes"] | None,
) -> CurveFit:
    """Fit from all starts for a few steps, then from the two best."""
    n_genes, n_starts, _ = starts.shape
    everyone = np.arange(n_genes)
    typical = np.full(n_genes, 0.3)  # a mean squared distance, in units of the variances
    prior = _prior(np.tile(PRIOR_MEAN, (n_genes, 1)), PRIOR_DEVIATION, typical, n_independent, units)
    first = _run(starts.reshape(-1, 4), points, prior, np.repeat(everyone, n_starts), FIRST_ITERATIONS)
    best = np.argsort(_finite(first.loss).reshape(n_genes, n_starts), axis=1)[:, :2]
    chosen = (everyone[:, None] * n_starts + best).ravel()
    distance = first.distance[chosen[::2]]
    prior = _prior(np.tile(PRIOR_MEAN, (n_genes, 1)), PRIOR_DEVIATION, distance, n_independent, units)
    second = _run(first.log_curve[chosen], points, prior, np.repeat(everyone, 2), iterations)
    best = np.argmin(_finite(second.loss).reshape(n_genes, 2), axis=1)
    return CurveFit(*(values[everyone * 2 + best] for values in second))


def _starts(
    u: Float[np.ndarray, "cells genes"], s: Float[np.ndarray, "cells genes"]
) -> Float[np.ndarray, "genes starts 4"]:
    """Curves that reach the top of the cells: near the steady state, or switched off long before."""
    top_u, top_s = (np.quantile(x, 0.98, axis=0) + 1e-3 for x in (u, s))
    starts = []
    for ratio in START_RATIOS:
        slow = min(ratio, 1.0)
        for long in (True, False):
            switch = 3.0 / slow if long else 0.8
            beyond_u, beyond_s = (1.05, 1.02) if long else (2.0, 1 / -np.expm1(-0.9 * slow * switch))
            starts.append(
                np.log(np.stack(np.broadcast_arrays(top_u * beyond_u, top_s * beyond_s, ratio, switch), axis=1))
            )
    return np.stack(starts, axis=1).astype(u.dtype)


def _prior(
    mean: Float[np.ndarray, "genes 4"],
    standard_deviation: Float[np.ndarray, "4"],
    distance: Float[np.ndarray, " genes"],
    n_independent: float,
    units: Float[np.ndarray, " genes"] | None,
    scaling_deviation: float = np.inf,
) -> Prior:
    r"""Normal prior in units of the loss.

    With :math:`d` the mean squared distance of :math:`n` independent cells, their negative log-likelihood is
    :math:`n` times the loss over :math:`d`, so that a prior of variance :math:`v` enters with :math:`d / (2 n v)`.
    A fixed scaling is the stiff condition :math:`\log U - \log S - \log g =` its logarithm in the units of the gene.
    """
    strength = _finite(distance, 1.0) / (2 * n_independent)
    inverse = np.diag(1 / np.square(standard_deviation)) + np.outer(SCALING, SCALING) / scaling_deviation**2
    precision = strength[:, None, None] * inverse
    mean = np.asarray(mean, dtype=float).copy()
    if units is not None:
        precision = precision + 10.0 * np.outer(SCALING, SCALING)
        # The mean meets the condition, without moving the ratio.
        mean[:, 0] = units + mean[:, 1] + mean[:, 2]
    return Prior(mean, precision)


def _run(
    start: Float[np.ndarray, "problems 4"],
    points: Points,
    prior: Prior,
    gene: Int[np.ndarray, " problems"],
    iterations: int,
) -> CurveFit:
    """Send problems, each on the points of a gene, through the compiled program."""
    results, dtype = [], points.places.dtype
    size = N_PROBLEMS if on_cpu() else DEVICE_N_PROBLEMS
    for first in range(0, len(start), size):
        # The last problem fills what is missing.
        problems = np.minimum(np.arange(first, first + size), len(start) - 1)
        genes = gene[problems]
        results.append(
            fit_curves(
                start[problems].astype(dtype),
                points.places[genes],
                points.weights[genes],
                points.branches[genes],
                Prior(prior.mean[genes].astype(dtype), prior.precision[genes].astype(dtype)),
                iterations,
            )
        )
    return CurveFit(
        *(np.concatenate([np.asarray(x) for x in parts])[: len(start)] for parts in zip(*results, strict=True))
    )


def _agreed_branches(on: OnBranch, off: OnBranch, weights: sp.csr_matrix) -> Int[np.ndarray, "cells genes"]:
    """Branch that the neighbourhood of each cell agrees on; FREE where it does not."""
    to_on, to_off = _smooth(on.distance, weights), _smooth(off.distance, weights)
    return np.select([CLEAR * to_on < to_off, CLEAR * to_off < to_on], [ON, OFF], FREE)


def _smooth(values: Float[np.ndarray, "cells genes"], weights: sp.csr_matrix) -> Float[np.ndarray, "cells genes"]:
    """Average over neighbours, twice."""
    return weights @ (weights @ values)


def _covariance(fit: CurveFit, n_independent: float, free: bool) -> Float[np.ndarray, "genes 4 4"]:
    """Inverse of the second derivative of the negative log-posterior, with the prior of the first fit.

    Where the scaling is fixed, in the three directions that leave it as it is; no variance in the other.
    """
    strength = _finite(fit.distance, 1.0) / (2 * n_independent)
    prior = strength[:, None, None] * np.diag(1 / np.square(PRIOR_DEVIATION))
    matrix = np.where(np.isfinite(fit.information), fit.information, 0).astype(float) + prior
    directions = np.eye(4) if free else scipy.linalg.null_space(SCALING[None])
    matrix = directions.T @ (matrix + np.swapaxes(matrix, 1, 2)) @ directions / 2  # symmetric, but for rounding
    # A direction that neither data nor prior say anything about gets a large variance, not a failure.
    inverse = np.linalg.inv(matrix + 1e-9 * np.eye(matrix.shape[-1]))
    return strength[:, None, None] * (directions @ inverse @ directions.T)


def _status(fit: CurveFit, finite: Bool[np.ndarray, " genes"]) -> np.ndarray:
    at_bound = np.any((fit.log_curve <= LOWER + 1e-3) | (fit.log_curve >= UPPER - 1e-3), axis=1)
    return np.select(
        [~(finite & np.isfinite(fit.log_curve).all(axis=1)), at_bound, fit.late_gain > 1e-3],
        [FAILED, AT_BOUND, NOT_CONVERGED],
        CONVERGED,
    )


def _finite(values: Float[np.ndarray, " n"], instead: float = np.inf) -> Float[np.ndarray, " n"]:
    return np.where(np.isfinite(values), values, instead)


def _shifted(
    units: Float[np.ndarray, " genes"] | None, unspliced_weight: Float[np.ndarray, " genes"]
) -> Float[np.ndarray, " genes"] | None:
    return None if units is None else units + np.log(unspliced_weight)
