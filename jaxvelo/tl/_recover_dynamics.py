"""The dynamical model on an AnnData, under scVelo's names."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.dynamical_fit import StoredFit, read_stored_fit, write_fit
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.fit_columns import (
    COVARIANCE,
    CURVE_LAYERS,
    EVIDENCE,
    FIT_LAYERS,
    GRADUAL_SLOPE,
    R2,
    RATES,
    VELOCITY,
    VELOCITY_OF,
    kinetics_columns,
    number_of_rates,
    rates_are_those_of,
)
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.configuration import accepts_data, ignore_arguments, logger, timed
from jaxvelo.dynamics import (
    CONVERGED,
    MODELS,
    DynamicalFit,
    SplicingKinetics,
    SteadyState,
    align_total_time,
    fit_dynamics,
    fit_gene_models,
    neighborhood_weights,
    rate_ratio,
    steady_slopes,
)
from jaxvelo.tl._velocity_genes import find_velocity_genes, fit_steady_state, highly_variable, read_counts

LEAST_CELLS = 10
UNEXPLAINED = "no model explains"
# Sums of the logarithms of U, S, g, T that give those of the rates in units of beta.
_LOGARITHMS = {"alpha": (0, 1, 1, 0), "gamma": (0, 0, 1, 0), "t_": (0, 0, 0, 1), "scaling": (1, -1, -1, 0)}


@accepts_data
def recover_dynamics(
    adata: AnnData,
    var_names: str | Sequence[str] = "velocity_genes",
    n_top_genes: int | None = None,
    max_iter: int = 20,
    t_max: float | bool | None = 20,
    fit_scaling: bool | float = True,
    *,
    standard_errors: bool = False,
    memory: float = 1.0,
    show_progress_bar: bool = True,
    n_jobs: int | None = None,
    backend: str | None = None,
    neighbors_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Fit the dynamical model of transcription, splicing and degradation: rates of genes, times of cells.

    Each gene is switched on once and off once,

    .. math:: \dot u = \alpha(t) - \beta u, \qquad \dot s = \beta u - \gamma s,

    with :math:`\alpha(t) = \alpha` until the switching time and 0 after it. The curve
    :math:`(u(t), s(t))` is fitted to the cells by the squared distances to it, in units of the standard deviations of
    the counts; each cell gets the time of its nearest point, on the branch that its neighbours agree on, averaged over
    them. Two weak priors, on :math:`\log \gamma/\beta` (mean -0.6, standard deviation 0.5) and on
    :math:`\log` of :math:`\beta` times the switching time (1.3 and 0.2), decide where the cells do not.

    Not every gene is switched on and off. Which velocity a gene gets is decided by evidence, among the curve
    (``"curve"``), one of its branches for all cells (``"induction"``, ``"repression"``), and transcription that changes
    in an unknown way (``"gradual"``: :math:`\beta u - \gamma s` with the counts of the cells, around the line of their
    steady states). All genes of a cell together say to which of its neighbours it moves; the model that says best how
    the gene changes on that way has the most evidence. See :func:`jaxvelo.dynamics.gene_models` for the formulas.
    The curve is kept for every gene.

    Parameters
    ----------
    adata
        First moments in ``adata.layers["Ms"]`` and ``["Mu"]`` (see :func:`jaxvelo.pp.moments`), and the neighbour graph
        in ``adata.obsp["connectivities"]``.
    var_names
        Genes to fit: names, a mask, the name of a mask in ``adata.var`` (booleans, or 0 and 1), or ``"all"``. If there
        is no column ``"velocity_genes"``, these genes are found with the steady-state model.
    n_top_genes
        Fit the genes with the most spliced counts only.
    max_iter
        Steps of the first fit of a gene, at least 5; its two refits take 0.6 times as many (at least 5 too).
    t_max
        Total time of each gene, to which times and rates are scaled so that they compare between genes. None is 20;
        False keeps the unit :math:`1/\beta`.
    fit_scaling
        Whether to fit the scaling between unspliced and spliced counts; a number fixes it there, False at 1.
    standard_errors
        Whether to write standard errors of the curve (Laplace approximation; neighbouring cells count once). That of
        :math:`\gamma/\beta` also holds how far the curve's is from ``fit_ratio``, and the error of that; that of the
        switching time is close to its prior's 0.2.
    memory
        GiB for the arrays of the genes that are fitted at a time. Results come on top, and for the models copies of
        moments and times, and a velocity, of all genes that have a curve: six arrays of the size of ``layers["Ms"]``.
    show_progress_bar
        Whether to show a progress bar, in genes.
    n_jobs, backend
        Accepted, and without effect: all genes are fitted in one process.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets, with NaN for genes without a fit,

        - ``.var["fit_alpha"]``, ``["fit_beta"]``, ``["fit_gamma"]``: rates per unit of time; as in scVelo,
          :math:`\beta` is ``fit_beta * fit_scaling``. ``["fit_t_"]``: switching time. ``["fit_scaling"]``: observed
          unspliced counts for one of the model's. ``["fit_alignment_scaling"]``: factor from times in units of
          :math:`1/\beta` to these. ``["fit_r2"]``: of a line through all cells;
        - ``.var["fit_status"]``: ``"converged"``, ``"at a bound"`` (rates that the cells do not determine),
          ``"not converged"``, ``"no model explains"`` (converged, but the gene does not follow where its cells go),
          ``"too few cells"`` (fewer than 10 with both kinds of counts, or no variance; no fit),
          ``"failed"`` (no fit), ``"not fitted"`` (not asked for), ``"fitted before"`` (not asked for, with rates from a
          fit without status, such as scVelo's);
        - ``.var["fit_residual"]``: mean squared distance of the cells to the curve, in units of
          ``["fit_std_u"]`` and ``["fit_std_s"]``; ``["fit_likelihood"]``, ``["fit_variance"]`` as in scVelo;
          ``["fit_u0"]``, ``["fit_s0"]`` are 0, ``["fit_steady_u"]``, ``["fit_steady_s"]`` the steady states of the
          curve (in scVelo, the upper peaks of the counts); ``["fit_pval_steady"]``, as in scVelo: small where the
          counts have such a second peak, of cells in the steady state, and where counts are small
          (:func:`jaxvelo.dynamics.second_peak_p_values`);
        - ``.var["fit_model"]``: the model with the most evidence; ``.varm["fit_evidence"]``, of shape (genes, 5): the
          probabilities of ``"curve"``, ``"induction"``, ``"repression"``, ``"gradual"`` and no motion;
          ``.var["fit_explained"]``: share of the gene's changes on the way of the cells that the models explain, over
          which they are averaged, negative where they say worse than no motion how the gene changes;
          ``.var["fit_gradual_slope"]``: of the line of steady states of ``"gradual"``, unspliced by spliced counts;
          ``.layers["fit_velocity"]``: velocity that follows, in spliced counts per unit of time. That unit is one for
          all genes, the one of the rates in the median gene: also with ``t_max=False``, where rates have a unit of
          their own for each gene. ``.var["fit_velocity_of"]``: a number of the rates that the velocity belongs to
          (:func:`jaxvelo.tl.velocity` takes no velocity of other rates). Genes that do not move with the others, and
          all where there are fewer than five independent cells, have no evidence (NaN, with a warning): their model is
          the curve, and their status that of the curve;
        - ``.var["fit_ratio"]``, ``["fit_log_ratio_se"]``: :math:`\gamma/\beta` and the standard error of its logarithm,
          where the curve is not trusted more than it deserves (:func:`jaxvelo.dynamics.rate_ratio`): 90 % intervals
          held the truth on 84 to 100 % of simulated genes. With a fixed scaling, they are the curve's;
        - ``.layers["fit_t"]``: time since the gene was switched on; ``["fit_tau"]``, ``["fit_tau_"]``: times since the
          last switch of the nearest points with the gene on, and off; ``["fit_on"]``: probability that it is on;
        - with ``standard_errors``, ``.varm["fit_covariance"]`` of shape (genes, 4, 4), the covariance of
          :math:`\log U, \log S, \log \gamma/\beta, \log \beta t` (steady states of observed unspliced and spliced
          counts, switching time :math:`t`), and ``.var["fit_log_alpha_se"]``, ``["fit_log_gamma_se"]``,
          ``["fit_log_t__se"]``, ``["fit_log_scaling_se"]``: standard errors of the logarithms of
          :math:`\alpha/\beta`, :math:`\gamma/\beta`, :math:`\beta t` and the scaling, that of :math:`\gamma/\beta` with
          the square of its distance from ``fit_ratio`` and of ``fit_log_ratio_se`` added;
        - ``.uns["recover_dynamics"]``: as scVelo's functions expect it.

        Genes fitted before and not asked for now keep their curve. Where each cell goes, and what unit velocities have,
        is found from all genes with a curve of this function, so that model, evidence and ``fit_velocity`` of genes
        fitted before are redone (if rates are still those of the velocities, and times are there). Of those asked for,
        what an earlier fit has written and this one does not (standard errors; scVelo's ``varm["loss"]``) becomes NaN,
        and so do the results of :func:`jaxvelo.tl.differential_kinetic_test`. Of those with other rates since, by
        another fit such as scVelo's, all that this function alone writes becomes NaN: they are ``"fitted before"``.

    Raises
    ------
    KeyError
        If moments, neighbours or genes are missing.
    TypeError
        If ``var_names`` is neither of what is named above.
    ValueError
        If data are negative or not finite, there are fewer than 10 cells or no gene to fit, an argument is out of
        range, or what an earlier fit has left is not of numbers.

    Notes
    -----
    The model and the keys are scVelo's; the fit is not. scVelo alternates between times and rates with a simplex
    search; here times are eliminated and rates take damped Gauss-Newton steps. ``varm["loss"]``
    is not written.

    References
    ----------
    Bergen et al. (2020), Generalizing RNA velocity to transient cell states through dynamical modeling.
    """
    require_no_copy(require_anndata(adata), copy)
    options = _options(n_top_genes, max_iter, t_max, fit_scaling, standard_errors, memory)
    ignore_arguments(n_jobs=n_jobs, backend=backend)
    fit = _fitted(_read(adata, var_names, neighbors_key), options, show_progress_bar)
    result = adata.copy() if copy else adata
    write_fit(result, fit)
    return result if copy else None


@dataclasses.dataclass(frozen=True)
class _Options:
    """What the user asks for; the total time is None to keep the unit, the scaling None to fit it."""

    n_top_genes: int | None
    iterations: int
    total_time: float | None
    scaling: float | None
    standard_errors: bool
    memory: float


def _options(
    n_top_genes: Any, max_iter: Any, t_max: Any, fit_scaling: Any, standard_errors: bool, memory: Any
) -> _Options:
    """Check the arguments that need no cells."""
    if n_top_genes is not None:
        check_integer("n_top_genes", n_top_genes, 1)
    check_integer("max_iter", max_iter, 5)
    return _Options(n_top_genes, max_iter, _total_time(t_max), _scaling(fit_scaling), standard_errors, _bytes(memory))


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What is read of the cells.

    Attributes
    ----------
    spliced, unspliced
        First moments, of shape (cells, genes).
    neighborhoods
        Weights of the mean over each cell and its neighbours.
    asked
        Mask of the genes to fit; None if they are to be found with the steady-state model.
    allowed
        Mask of the genes among which they are found.
    before
        What earlier fits have left.
    """

    spliced: Float[np.ndarray, "cells genes"]
    unspliced: Float[np.ndarray, "cells genes"]
    neighborhoods: sp.csr_matrix
    asked: Bool[np.ndarray, " genes"] | None
    allowed: Bool[np.ndarray, " genes"]
    before: StoredFit


def _read(adata: AnnData, var_names: Any, neighbors_key: str | None) -> _Inputs:
    if adata.n_obs < LEAST_CELLS:
        raise ValueError(
            f"Expected at least {LEAST_CELLS} cells, found {adata.n_obs}. Four parameters of each gene need more cells."
        )
    spliced, unspliced = read_counts(adata, "Ms"), read_counts(adata, "Mu")
    neighborhoods = neighborhood_weights(read_neighbor_graph(adata, "connectivities", neighbors_key))
    allowed = np.ones(adata.n_vars, dtype=bool)
    asked: np.ndarray | None = allowed
    is_word = isinstance(var_names, str) and var_names not in adata.var_names and var_names not in adata.var
    if is_word and var_names == "velocity_genes":
        asked, allowed = None, highly_variable(adata)
    elif not (is_word and var_names == "all"):
        asked = chosen_genes(adata, var_names, "var_names")
        _require_genes(asked, var_names)
    return _Inputs(spliced, unspliced, neighborhoods, asked, allowed, read_stored_fit(adata))


def _fitted(inputs: _Inputs, options: _Options, shows_progress: bool) -> StoredFit:
    """Fit the genes, and put their fit beside what earlier fits have left of the others."""
    steady = fit_steady_state(inputs.spliced, inputs.unspliced, r2_adjusted=True)
    genes = _genes(inputs, steady, options.n_top_genes)
    unspliced, spliced = (np.take(x, genes, axis=1) for x in (inputs.unspliced, inputs.spliced))
    with (
        timed(f"Recovering dynamics of {len(genes)} genes"),
        tqdm(total=len(genes), desc="Genes", disable=not shows_progress, leave=False) as bar,
    ):
        fit = fit_dynamics(
            unspliced,
            spliced,
            inputs.neighborhoods,
            iterations=options.iterations,
            scaling=options.scaling,
            memory=options.memory,
            report=bar.update,
        )
        fit, factor = _in_time_unit(fit, options.total_time)
        new = _stored(fit, factor, options.scaling, options.standard_errors, steady_slopes(unspliced, spliced))
        stored = inputs.before.with_genes(genes, new)
        del fit, new, unspliced, spliced  # large
        stored = _with_models(stored, genes, inputs)
    _report(stored, genes)
    r2 = np.asarray(steady.r2, dtype=float)
    return dataclasses.replace(stored, columns={**stored.columns, R2: r2})


def _total_time(t_max: Any) -> float | None:
    if t_max is None or t_max is False:
        return 20.0 if t_max is None else None
    if not is_number(t_max) or not 0 < t_max < np.inf:
        raise ValueError(f"Expected `t_max` to be a positive number, None or False, found `{t_max!r}`.")
    return float(t_max)


def _scaling(fit_scaling: Any) -> float | None:
    """Fixed scaling, or None if it is fitted."""
    if isinstance(fit_scaling, (bool, np.bool_)):
        return None if fit_scaling else 1.0
    if not is_number(fit_scaling) or not 0 < fit_scaling < np.inf:
        raise ValueError(f"Expected `fit_scaling` to be True, False or a positive number, found `{fit_scaling!r}`.")
    return float(fit_scaling)


def _bytes(memory: Any) -> float:
    if not is_number(memory) or not 0 < memory < np.inf:
        raise ValueError(f"Expected `memory` to be a positive number of GiB, found `{memory!r}`.")
    return memory * 2**30


def _genes(inputs: _Inputs, steady: SteadyState, n_top_genes: int | None) -> Int[np.ndarray, " fitted"]:
    """Places of the genes to fit, in the order of ``adata.var``."""
    mask = inputs.asked
    if mask is None:
        mask = find_velocity_genes(steady, inputs.spliced, inputs.unspliced, inputs.allowed)
        _require_genes(mask, "velocity_genes")
    genes = np.flatnonzero(mask)
    if n_top_genes is None:
        return genes
    return np.sort(genes[np.argsort(-inputs.spliced[:, genes].sum(axis=0), kind="stable")[:n_top_genes]])


def _require_genes(mask: np.ndarray, var_names: Any) -> None:
    if not mask.any():
        raise ValueError(f"Expected genes to fit, found none with `var_names={var_names!r}`. Name some, or pass 'all'.")


def _report(fit: StoredFit, genes: Int[np.ndarray, " fitted"]) -> None:
    model = fit.model[genes]
    for what, words in (("Genes", fit.status[genes]), ("Models", model[model != None])):  # noqa: E711
        if not len(words):
            continue
        names, counts = np.unique(words.astype(str), return_counts=True)
        logger.info("    %s: %s", what, ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True)))


def _in_time_unit(fit: DynamicalFit, total_time: float | None) -> tuple[DynamicalFit, Float[np.ndarray, " genes"]]:
    """Times and rates that compare between genes, and the factors of the times; None keeps the unit of each gene."""
    factor = np.ones(len(fit.status))
    known = np.isfinite(fit.kinetics.switching_time)
    if total_time is not None:
        factor[known] = align_total_time(fit.time[:, known], fit.kinetics.switching_time[known], total_time)
    for times in (fit.time, fit.time_on, fit.time_off):  # in place: they are large, and nobody else's
        times *= factor.astype(times.dtype)
    kinetics = fit.kinetics
    kinetics = eqx.tree_at(
        lambda k: (k.alpha, k.beta, k.gamma, k.switching_time),
        kinetics,
        (
            kinetics.alpha / factor,
            kinetics.beta / factor,
            kinetics.gamma / factor,
            kinetics.switching_time * factor,
        ),
    )
    return eqx.tree_at(lambda f: f.kinetics, fit, kinetics), np.where(known, factor, np.nan)


def _stored(
    fit: DynamicalFit,
    factor: Float[np.ndarray, " genes"],
    scaling: float | None,
    standard_errors: bool,
    slopes: Float[np.ndarray, " genes"],
) -> StoredFit:
    """Give the curves as they are stored."""
    kinetics = fit.kinetics
    columns = {
        **kinetics_columns(kinetics),
        "fit_std_u": fit.deviation[0],
        "fit_std_s": fit.deviation[1],
        "fit_likelihood": fit.likelihood,
        "fit_u0": np.where(np.isfinite(factor), 0.0, np.nan),
        "fit_s0": np.where(np.isfinite(factor), 0.0, np.nan),
        "fit_steady_u": kinetics.alpha / kinetics.beta * kinetics.scaling,
        "fit_steady_s": kinetics.alpha / kinetics.gamma,
        "fit_pval_steady": fit.steady_p_value,
        "fit_variance": fit.variance,
        "fit_residual": fit.residual,
        "fit_alignment_scaling": factor,
    }
    errors = _standard_errors(fit.covariance)
    ratio = np.log(np.asarray(kinetics.gamma / kinetics.beta, dtype=float))
    columns["fit_ratio"], columns["fit_log_ratio_se"] = np.exp(ratio), errors["fit_log_gamma_se"].copy()
    known = np.isfinite(ratio)
    if scaling is None and known.any():
        log_scaling, error = np.log(kinetics.scaling[known].astype(float)), errors["fit_log_scaling_se"][known]
        log_slope = np.log(np.maximum(slopes[known].astype(float), np.finfo(float).tiny))
        posterior = rate_ratio(ratio[known], log_scaling, np.square(error), log_slope)
        columns["fit_ratio"][known], columns["fit_log_ratio_se"][known] = np.exp(posterior.mean), posterior.deviation
    arrays = {}
    if standard_errors:
        # The curve may be another than that of the cells.
        off = ratio - np.log(columns["fit_ratio"])
        errors["fit_log_gamma_se"] = np.hypot(errors["fit_log_gamma_se"], np.hypot(off, columns["fit_log_ratio_se"]))
        columns |= errors
        arrays[COVARIANCE] = np.asarray(fit.covariance, dtype=float)
    layers = dict(zip(FIT_LAYERS, (fit.time, fit.time_on, fit.time_off, fit.probability_on), strict=False))
    columns = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    return StoredFit(columns, layers, arrays, fit.status, np.full(len(fit.status), None, dtype=object))


def _with_models(stored: StoredFit, genes: Int[np.ndarray, " fitted"], inputs: _Inputs) -> StoredFit:
    """Add what gives each gene its velocity, of all genes whose curve is one of this fit or of an earlier one.

    What is common to the genes, such as where each cell goes, is to be that of all of them.
    """
    before, n_genes = inputs.before, len(stored.status)
    rates = [stored.columns[name] for name in RATES]
    is_new = np.zeros(n_genes, dtype=bool)
    is_new[genes] = True
    has_curve = np.isfinite(rates).all(axis=0) & (is_new | rates_are_those_of(stored.columns))
    for name in CURVE_LAYERS:
        has_curve &= np.isfinite(stored.layers[name]).all(axis=0)
    dtype = stored.layers["fit_t"].dtype
    velocity = np.full(inputs.spliced.shape, np.nan, dtype=dtype)
    if VELOCITY in before.layers:
        velocity[:] = before.layers[VELOCITY]
        velocity[:, genes] = np.nan
    columns = {
        name: stored.columns.get(name, np.full(n_genes, np.nan)).copy()
        for name in ("fit_explained", GRADUAL_SLOPE, VELOCITY_OF)
    }
    evidence = np.full((n_genes, len(MODELS) + 1), np.nan)
    earlier = before.arrays.get(EVIDENCE)
    if earlier is not None and earlier.shape == evidence.shape:
        evidence[~is_new] = earlier[~is_new]
    model, status = stored.model.copy(), stored.status.copy()
    if has_curve.any():
        kept = slice(None) if has_curve.all() else has_curve  # the first copies nothing
        times = [stored.layers[name][:, kept].astype(dtype, copy=False) for name in CURVE_LAYERS]
        alpha, beta, gamma, switching_time, scaling = (x[has_curve] for x in rates)
        kinetics = SplicingKinetics(alpha, beta * scaling, gamma, switching_time, scaling)
        kinetics = jax.tree.map(lambda rate: rate.astype(dtype), kinetics)
        u, s = (np.ascontiguousarray(x[:, kept], dtype=dtype) for x in (inputs.unspliced, inputs.spliced))
        found, velocity[:, kept] = fit_gene_models(kinetics, times, u, s, inputs.neighborhoods)
        columns["fit_explained"][has_curve], evidence[has_curve] = found.explained, found.evidence
        columns[GRADUAL_SLOPE][has_curve] = found.gradual_slope
        columns[VELOCITY_OF][has_curve] = number_of_rates(rates)[has_curve]
        status[has_curve & (status == UNEXPLAINED)] = CONVERGED
        lost = np.zeros(n_genes, dtype=bool)
        lost[has_curve] = found.evidence[:, -1] > 0.5
        status[lost & (status == CONVERGED)] = UNEXPLAINED
        known = np.isfinite(found.evidence).all(axis=1)
        best = np.where(known, np.argmax(found.evidence[:, :-1], axis=1), MODELS.index("curve"))
        model[has_curve] = np.array(MODELS, dtype=object)[best]
        if not known.all():
            logger.warning(
                "No evidence for the models of %d genes, which do not move with the others or have too few independent "
                "cells: their velocities are those of their curves",
                np.count_nonzero(~known),
            )
    return dataclasses.replace(
        stored,
        columns={**stored.columns, **columns},
        layers={**stored.layers, VELOCITY: velocity},
        arrays={**stored.arrays, EVIDENCE: evidence},
        status=status,
        model=model,
    )


def _standard_errors(covariance: np.ndarray) -> dict[str, np.ndarray]:
    """Of the logarithms of the rates in units of beta, which are sums of those of the curve's parameters."""
    result = {}
    for name, factors in _LOGARITHMS.items():
        c = np.array(factors, dtype=float)
        variance = np.einsum("p,gpq,q->g", c, covariance, c)
        # That of a fixed scaling is zero, but for rounding.
        result[f"fit_log_{name}_se"] = np.sqrt(np.maximum(variance, 0))
    return result
