"""The dynamical model on an AnnData, under scVelo's names."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.dynamical_fit import StoredFit, read_stored_fit, write_fit
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.fit_columns import CURVE_LAYERS, EVIDENCE, FIT_LAYERS, VELOCITY
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.memory_limit import bytes_of
from jaxvelo.annotated.progress_bar import bars, progress_bar
from jaxvelo.configuration import accepts_data, ignore_arguments, timed
from jaxvelo.dynamics import fit_dynamics, fit_gene_models, neighborhood_weights, steady_slopes
from jaxvelo.tl._dynamics_on_disk import recover_on_disk
from jaxvelo.tl._moment_layers import moments_on_disk, read_counts
from jaxvelo.tl._stored_curves import (
    Inputs,
    Options,
    genes_to_fit,
    has_curve,
    in_time_unit,
    kinetics_of,
    report,
    require_genes,
    stored_curves,
    with_evidence,
    with_r2,
)
from jaxvelo.tl._velocity_genes import fit_steady_state, highly_variable

LEAST_CELLS = 10
_Moments = tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]]
"""Spliced and unspliced."""


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
    memory_limit: int | float | str | None = None,
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

    Moments that are on disk stay there: some genes of all cells are read at a time, and what is of cells and genes is
    written to files of its own. Results equal those of moments in memory. Made again after it was interrupted, the same
    call goes on where it was left, and after all was done it finds the curves there.

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
        GiB for the arrays of the genes that are fitted at a time, of moments in memory. Results come on top, and for
        the models copies of moments and times, and a velocity, of all genes that have a curve: six arrays of the size
        of ``layers["Ms"]``.
    show_progress_bar
        Whether to show a progress bar, in genes.
    n_jobs, backend
        Accepted, and without effect: all genes are fitted in one process.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    memory_limit
        Memory for genes whose moments are on disk, besides the graph and some 100 bytes for each of its edges: bytes,
        or a text such as ``"8 GiB"``; half of what is free if None. Genes are fitted fastest if 32 of them fit for each
        core, with some 300 bytes for each cell. Without effect on moments in memory.
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
        range, what an earlier fit has left is not of numbers, or ``memory_limit`` is too small for one gene.
    OSError
        If layers on disk cannot be read or written.

    Notes
    -----
    The model and the keys are scVelo's; the fit is not. scVelo alternates between times and rates with a simplex
    search; here times are eliminated and rates take damped Gauss-Newton steps. ``varm["loss"]``
    is not written.

    References
    ----------
    Bergen et al. (2020), Generalizing RNA velocity to transient cell states through dynamical modeling.

    Examples
    --------
    >>> jv.tl.recover_dynamics(adata)
    >>> float(adata.var["fit_likelihood"].max()) > 0.1
    True
    """
    require_no_copy(require_anndata(adata), copy)
    options = _options(n_top_genes, max_iter, t_max, fit_scaling, standard_errors, memory)
    ignore_arguments(n_jobs=n_jobs, backend=backend)
    moments, inputs = _read(adata, var_names, neighbors_key)
    with bars(show_progress_bar):
        if moments is None:
            fit = recover_on_disk(adata, inputs, options, bytes_of(memory_limit))
        else:
            fit = _fitted(moments, inputs, options)
    result = adata.copy() if copy else adata
    write_fit(result, fit)
    return result if copy else None


def _options(
    n_top_genes: Any, max_iter: Any, t_max: Any, fit_scaling: Any, standard_errors: bool, memory: Any
) -> Options:
    """Check the arguments that need no cells."""
    if n_top_genes is not None:
        check_integer("n_top_genes", n_top_genes, 1)
    check_integer("max_iter", max_iter, 5)
    return Options(n_top_genes, max_iter, _total_time(t_max), _scaling(fit_scaling), standard_errors, _bytes(memory))


def _read(adata: AnnData, var_names: Any, neighbors_key: str | None) -> tuple[_Moments | None, Inputs]:
    """Read what is fitted, but for moments on disk."""
    if adata.n_obs < LEAST_CELLS:
        raise ValueError(
            f"Expected at least {LEAST_CELLS} cells, found {adata.n_obs}. Four parameters of each gene need more cells."
        )
    on_disk = moments_on_disk(adata, with_counts=False)
    moments = None if on_disk else (read_counts(adata, "Ms"), read_counts(adata, "Mu"))
    neighborhoods = neighborhood_weights(read_neighbor_graph(adata, "connectivities", neighbors_key))
    allowed = np.ones(adata.n_vars, dtype=bool)
    asked: np.ndarray | None = allowed
    is_word = isinstance(var_names, str) and var_names not in adata.var_names and var_names not in adata.var
    if is_word and var_names == "velocity_genes":
        asked, allowed = None, highly_variable(adata)
    elif not (is_word and var_names == "all"):
        asked = chosen_genes(adata, var_names, "var_names")
        require_genes(asked, var_names)
    return moments, Inputs(neighborhoods, asked, allowed, read_stored_fit(adata, with_layers=not on_disk))


def _fitted(moments: _Moments, inputs: Inputs, options: Options) -> StoredFit:
    """Fit the genes, and put their fit beside what earlier fits have left of the others."""
    spliced, unspliced = moments
    steady = fit_steady_state(spliced, unspliced, r2_adjusted=True)
    genes = genes_to_fit(
        inputs,
        steady,
        (spliced, unspliced),
        options.n_top_genes,
        lambda genes: spliced[:, genes].sum(axis=0, dtype=float),
    )
    u, s = (np.take(x, genes, axis=1) for x in (unspliced, spliced))
    with (
        timed(f"Recovering dynamics of {len(genes)} genes"),
        progress_bar(len(genes), "Fits", "genes") as bar,
    ):
        fit = fit_dynamics(
            u,
            s,
            inputs.neighborhoods,
            iterations=options.iterations,
            scaling=options.scaling,
            memory=options.memory,
            report=bar.update,
        )
        fit, factor = in_time_unit(fit, options.total_time)
        new = stored_curves(fit, factor, steady_slopes(u, s), options.scaling, options.standard_errors)
        layers = dict(zip(FIT_LAYERS, (fit.time, fit.time_on, fit.time_off, fit.probability_on), strict=False))
        stored = inputs.before.with_genes(genes, dataclasses.replace(new, layers=layers))
        del fit, new, layers, u, s  # large
        stored = _with_models(stored, genes, inputs, moments)
    report(stored, genes)
    return with_r2(stored, steady)


def _with_models(stored: StoredFit, genes: Int[np.ndarray, " fitted"], inputs: Inputs, moments: _Moments) -> StoredFit:
    """Add what gives each gene its velocity, of all genes whose curve is one of this fit or of an earlier one."""
    before = inputs.before
    finite = np.all([np.isfinite(stored.layers[name]).all(axis=0) for name in CURVE_LAYERS], axis=0)
    known = has_curve(stored, genes, finite)
    dtype = stored.layers["fit_t"].dtype
    velocity = np.full(moments[0].shape, np.nan, dtype=dtype)
    if VELOCITY in before.layers:
        velocity[:] = before.layers[VELOCITY]
        velocity[:, genes] = np.nan
    models = None
    if known.any():
        kept = slice(None) if known.all() else known  # the first copies nothing
        times = [stored.layers[name][:, kept].astype(dtype, copy=False) for name in CURVE_LAYERS]
        s, u = (np.ascontiguousarray(x[:, kept], dtype=dtype) for x in moments)
        kinetics = kinetics_of(stored, known, dtype)
        models, velocity[:, kept] = fit_gene_models(kinetics, times, u, s, inputs.neighborhoods)
    stored = with_evidence(stored, before.arrays.get(EVIDENCE), genes, known, models)
    return dataclasses.replace(stored, layers={**stored.layers, VELOCITY: velocity})


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
