"""The dynamical model on an AnnData, under scVelo's names."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from anndata import AnnData
from tqdm import tqdm

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.earlier_fit import EarlierFit
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.fit_columns import FIT_LAYERS, kinetics_columns
from jaxvelo.annotated.genes import chosen_genes
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.configuration import accepts_data, ignore_arguments, logger, timed
from jaxvelo.dynamics import DynamicalFit, SplicingKinetics, align_total_time, fit_dynamics, neighborhood_weights
from jaxvelo.tl._velocity_genes import find_velocity_genes, fit_steady_state, highly_variable, read_counts

LEAST_CELLS = 10
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
        Whether to write standard errors (Laplace approximation; neighbouring cells count once). On simulated cells
        those of the ratio of rates are too small by 1.3, and with much noise by up to 2; that of the switching time
        is close to its prior's 0.2.
    memory
        GiB for the arrays of the genes that are fitted at a time; results come on top.
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
          ``"not converged"``, ``"too few cells"`` (fewer than 10 with both kinds of counts, or no variance; no fit),
          ``"failed"`` (no fit), ``"not fitted"`` (not asked for), ``"fitted before"`` (not asked for, with rates from a
          fit without status, such as scVelo's);
        - ``.var["fit_residual"]``: mean squared distance of the cells to the curve, in units of
          ``["fit_std_u"]`` and ``["fit_std_s"]``; ``["fit_likelihood"]``, ``["fit_variance"]`` as in scVelo;
          ``["fit_u0"]``, ``["fit_s0"]`` are 0, ``["fit_steady_u"]``, ``["fit_steady_s"]`` the steady states;
        - ``.layers["fit_t"]``: time since the gene was switched on; ``["fit_tau"]``, ``["fit_tau_"]``: times since the
          last switch of the nearest points with the gene on, and off; ``["fit_on"]``: probability that it is on;
        - with ``standard_errors``, ``.varm["fit_covariance"]`` of shape (genes, 4, 4), the covariance of
          :math:`\log U, \log S, \log \gamma/\beta, \log \beta t` (steady states of observed unspliced and spliced
          counts, switching time :math:`t`), and ``.var["fit_log_alpha_se"]``, ``["fit_log_gamma_se"]``,
          ``["fit_log_t__se"]``, ``["fit_log_scaling_se"]``: standard errors of the logarithms of
          :math:`\alpha/\beta`, :math:`\gamma/\beta`, :math:`\beta t` and the scaling;
        - ``.uns["recover_dynamics"]``: as scVelo's functions expect it.

        Genes fitted before and not asked for now keep their fit. Of those asked for, what an earlier fit has written
        and this one does not (standard errors; scVelo's ``fit_pval_steady`` and ``varm["loss"]``) becomes NaN.

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
    search; here times are eliminated and rates take damped Gauss-Newton steps. ``fit_pval_steady`` and
    ``varm["loss"]`` are not written.

    References
    ----------
    Bergen et al. (2020), Generalizing RNA velocity to transient cell states through dynamical modeling.
    """
    require_anndata(adata)
    total_time = _total_time(t_max)
    scaling = _scaling(fit_scaling)
    check_integer("max_iter", max_iter, 5)
    if not is_number(memory) or not 0 < memory < np.inf:
        raise ValueError(f"Expected `memory` to be a positive number of GiB, found `{memory!r}`.")
    ignore_arguments(n_jobs=n_jobs, backend=backend)
    if adata.n_obs < LEAST_CELLS:
        raise ValueError(
            f"Expected at least {LEAST_CELLS} cells, found {adata.n_obs}. Four parameters of each gene need more cells."
        )
    spliced, unspliced = read_counts(adata, "Ms"), read_counts(adata, "Mu")
    weights = neighborhood_weights(read_neighbor_graph(adata, "connectivities", neighbors_key))

    steady = fit_steady_state(spliced, unspliced, r2_adjusted=True)
    genes = _genes(adata, var_names, find=lambda: _velocity_genes(adata, steady, spliced, unspliced))
    if n_top_genes is not None:
        check_integer("n_top_genes", n_top_genes, 1)
        genes = np.sort(genes[np.argsort(-spliced[:, genes].sum(axis=0), kind="stable")[:n_top_genes]])

    result = adata.copy() if copy else adata
    before = EarlierFit(adata, genes)
    with (
        timed(f"Recovering dynamics of {len(genes)} genes"),
        tqdm(total=len(genes), desc="Genes", disable=not show_progress_bar, leave=False) as bar,
    ):
        fit = fit_dynamics(
            unspliced[:, genes],
            spliced[:, genes],
            weights,
            iterations=max_iter,
            scaling=scaling,
            memory=memory * 2**30,
            report=bar.update,
        )
    _report(fit)
    _write(result, before, fit, total_time, np.asarray(steady.r2, dtype=float), standard_errors)
    return result if copy else None


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


def _velocity_genes(adata: AnnData, steady: Any, spliced: np.ndarray, unspliced: np.ndarray) -> np.ndarray:
    return find_velocity_genes(steady, spliced, unspliced, highly_variable(adata))


def _genes(adata: AnnData, var_names: Any, find: Callable[[], np.ndarray]) -> np.ndarray:
    """Places of the genes to fit, in the order of ``adata.var``."""
    if isinstance(var_names, str) and var_names not in adata.var_names and var_names not in adata.var:
        if var_names == "velocity_genes":
            return _places(find(), var_names)
        if var_names == "all":
            return np.arange(adata.n_vars)
    return _places(chosen_genes(adata, var_names, "var_names"), var_names)


def _places(mask: np.ndarray, var_names: Any) -> np.ndarray:
    if not mask.any():
        raise ValueError(f"Expected genes to fit, found none with `var_names={var_names!r}`. Name some, or pass 'all'.")
    return np.flatnonzero(mask)


def _report(fit: DynamicalFit) -> None:
    names, counts = np.unique(fit.status.astype(str), return_counts=True)
    logger.info("    Genes: %s", ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True)))


def _write(
    adata: AnnData,
    before: EarlierFit,
    fit: DynamicalFit,
    total_time: float | None,
    r2: np.ndarray,
    standard_errors: bool,
) -> None:
    factor = np.ones(len(before.genes))
    known = np.isfinite(fit.kinetics.switching_time)
    if total_time is not None:
        factor[known] = align_total_time(fit.time[:, known], fit.kinetics.switching_time[known], total_time)
    kinetics = in_time_unit(fit.kinetics, factor)
    columns: dict[str, Any] = {
        **kinetics_columns(kinetics),
        "fit_std_u": fit.deviation[0],
        "fit_std_s": fit.deviation[1],
        "fit_likelihood": fit.likelihood,
        "fit_u0": np.where(known, 0.0, np.nan),
        "fit_s0": np.where(known, 0.0, np.nan),
        "fit_steady_u": kinetics.alpha / kinetics.beta * kinetics.scaling,
        "fit_steady_s": kinetics.alpha / kinetics.gamma,
        "fit_variance": fit.variance,
        "fit_residual": fit.residual,
        "fit_alignment_scaling": np.where(known, factor, np.nan),
    }
    columns |= _standard_errors(fit.covariance) if standard_errors else {}
    for times in (fit.time, fit.time_on, fit.time_off):
        times *= factor.astype(times.dtype)
    layers = dict(zip(FIT_LAYERS, (fit.time, fit.time_on, fit.time_off, fit.probability_on), strict=True))
    before.write(adata, columns, layers, fit.covariance if standard_errors else None, fit.status, r2)
    adata.uns["recover_dynamics"] = {"fit_connected_states": True, "use_raw": False}


def in_time_unit(kinetics: SplicingKinetics, factor: np.ndarray) -> SplicingKinetics:
    """Rates with all times multiplied by a factor of each gene."""
    return eqx.tree_at(
        lambda k: (k.alpha, k.beta, k.gamma, k.switching_time),
        kinetics,
        (
            kinetics.alpha / factor,
            kinetics.beta / factor,
            kinetics.gamma / factor,
            kinetics.switching_time * factor,
        ),
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
