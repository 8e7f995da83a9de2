"""Curves of genes, and models that give them velocities, as numbers that are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from jaxvelo.annotated.dynamical_fit import StoredFit
from jaxvelo.annotated.fit_columns import (
    COVARIANCE,
    EVIDENCE,
    GRADUAL_SLOPE,
    R2,
    RATES,
    VELOCITY_OF,
    kinetics_columns,
    number_of_rates,
    rates_are_those_of,
)
from jaxvelo.configuration import logger
from jaxvelo.dynamics import (
    CONVERGED,
    MODELS,
    DynamicalFit,
    GeneModels,
    SplicingKinetics,
    SteadyState,
    align_total_time,
    rate_ratio,
)
from jaxvelo.dynamics._gene_blocks import gene_blocks
from jaxvelo.tl._velocity_genes import find_velocity_genes

UNEXPLAINED = "no model explains"
# Sums of the logarithms of U, S, g, T that give those of the rates in units of beta.
_LOGARITHMS = {"alpha": (0, 1, 1, 0), "gamma": (0, 0, 1, 0), "t_": (0, 0, 0, 1), "scaling": (1, -1, -1, 0)}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user asks for; the total time is None to keep the unit, the scaling None to fit it."""

    n_top_genes: int | None
    iterations: int
    total_time: float | None
    scaling: float | None
    standard_errors: bool
    memory: float


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is read besides the moments.

    Attributes
    ----------
    neighborhoods
        Weights of the mean over each cell and its neighbours.
    asked
        Mask of the genes to fit; None if they are to be found with the steady-state model.
    allowed
        Mask of the genes among which they are found.
    before
        What earlier fits have left.
    """

    neighborhoods: sp.csr_matrix
    asked: Bool[np.ndarray, " genes"] | None
    allowed: Bool[np.ndarray, " genes"]
    before: StoredFit


def genes_to_fit(
    inputs: Inputs,
    steady: SteadyState,
    moments: Sequence[Float[np.ndarray, "cells genes"]],
    n_top_genes: int | None,
    totals: Callable[[np.ndarray], Float[np.ndarray, " some"]],
) -> Int[np.ndarray, " fitted"]:
    """Places of the genes to fit, in the order of ``adata.var``.

    Parameters
    ----------
    inputs, n_top_genes
        What the user asks for.
    steady
        Fit of the steady-state model.
    moments
        Spliced and unspliced ones, or the largest of each gene.
    totals
        Gives the sums of the spliced moments of some genes.
    """
    mask = inputs.asked
    if mask is None:
        spliced, unspliced = moments
        mask = find_velocity_genes(steady, spliced, unspliced, inputs.allowed)
        require_genes(mask, "velocity_genes")
    genes = np.flatnonzero(mask)
    if n_top_genes is None:
        return genes
    return np.sort(genes[np.argsort(-totals(genes), kind="stable")[:n_top_genes]])


def require_genes(mask: np.ndarray, var_names: object) -> None:
    """Raise a ValueError if there is none."""
    if not mask.any():
        raise ValueError(f"Expected genes to fit, found none with `var_names={var_names!r}`. Name some, or pass 'all'.")


def in_time_unit(fit: DynamicalFit, total_time: float | None) -> tuple[DynamicalFit, Float[np.ndarray, " genes"]]:
    """Times and rates that compare between genes, and the factors of the times; None keeps the unit of each gene."""
    factor = np.ones(len(fit.status))
    known = np.isfinite(fit.kinetics.switching_time)
    if total_time is not None:
        for genes in gene_blocks(*fit.time.shape):
            some = np.arange(len(known))[genes][known[genes]]
            factor[some] = align_total_time(fit.time[:, some], fit.kinetics.switching_time[some], total_time)
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


def stored_curves(
    fit: DynamicalFit,
    factor: Float[np.ndarray, " genes"],
    slopes: Float[np.ndarray, " genes"],
    scaling: float | None,
    standard_errors: bool,
) -> StoredFit:
    """Give the numbers of all genes that were fitted as they are stored, without what is of cells.

    Parameters
    ----------
    fit, factor
        Result of :func:`in_time_unit`.
    slopes
        Of the highest cells, see :func:`jaxvelo.dynamics.steady_slopes`.
    scaling, standard_errors
        What the user asks for.
    """
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
    columns = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    return StoredFit(columns, {}, arrays, fit.status, np.full(len(fit.status), None, dtype=object))


def has_curve(
    stored: StoredFit, genes: Int[np.ndarray, " fitted"], finite: Bool[np.ndarray, " genes"]
) -> Bool[np.ndarray, " genes"]:
    """Mask of the genes whose curve is one of this fit or of an earlier one.

    What is common to the genes, such as where each cell goes, is to be that of all of them.

    Parameters
    ----------
    stored
        The curves.
    genes
        Places of the genes of this fit.
    finite
        Mask of the genes whose times are.
    """
    is_new = np.zeros(len(stored.status), dtype=bool)
    is_new[genes] = True
    rates = [stored.columns[name] for name in RATES]
    return np.isfinite(rates).all(axis=0) & (is_new | rates_are_those_of(stored.columns)) & finite


def kinetics_of(stored: StoredFit, genes: Bool[np.ndarray, " genes"], dtype: np.dtype) -> SplicingKinetics:
    """Rates of genes that have a curve."""
    alpha, beta, gamma, switching_time, scaling = (stored.columns[name][genes] for name in RATES)
    kinetics = SplicingKinetics(alpha, beta * scaling, gamma, switching_time, scaling)
    return jax.tree.map(lambda rate: rate.astype(dtype), kinetics)


def with_evidence(
    stored: StoredFit,
    earlier: Float[np.ndarray, "genes models"] | None,
    genes: Int[np.ndarray, " fitted"],
    known: Bool[np.ndarray, " genes"],
    models: GeneModels | None,
) -> StoredFit:
    """Add the evidence for the models of genes, and what follows of it.

    Parameters
    ----------
    stored
        The curves.
    earlier
        Evidence that an earlier fit has left.
    genes
        Places of the genes of this fit.
    known
        Mask of the genes with a curve.
    models
        Of these; None if there are none.
    """
    n_genes = len(stored.status)
    columns = {
        name: stored.columns.get(name, np.full(n_genes, np.nan)).copy()
        for name in ("fit_explained", GRADUAL_SLOPE, VELOCITY_OF)
    }
    evidence = np.full((n_genes, len(MODELS) + 1), np.nan)
    if earlier is not None and earlier.shape == evidence.shape:
        evidence[:] = earlier
        evidence[genes] = np.nan
    model, status = stored.model.copy(), stored.status.copy()
    if models is not None:
        columns["fit_explained"][known], evidence[known] = models.explained, models.evidence
        columns[GRADUAL_SLOPE][known] = models.gradual_slope
        columns[VELOCITY_OF][known] = number_of_rates([stored.columns[name] for name in RATES])[known]
        status[known & (status == UNEXPLAINED)] = CONVERGED
        lost = np.zeros(n_genes, dtype=bool)
        lost[known] = models.evidence[:, -1] > 0.5
        status[lost & (status == CONVERGED)] = UNEXPLAINED
        has_evidence = np.isfinite(models.evidence).all(axis=1)
        best = np.where(has_evidence, np.argmax(models.evidence[:, :-1], axis=1), MODELS.index("curve"))
        model[known] = np.array(MODELS, dtype=object)[best]
        if not has_evidence.all():
            logger.warning(
                "No evidence for the models of %d genes, which do not move with the others or have too few independent "
                "cells: their velocities are those of their curves",
                np.count_nonzero(~has_evidence),
            )
    return dataclasses.replace(
        stored,
        columns={**stored.columns, **columns},
        arrays={**stored.arrays, EVIDENCE: evidence},
        status=status,
        model=model,
    )


def with_r2(stored: StoredFit, steady: SteadyState) -> StoredFit:
    """Add how well a line through all cells fits each gene."""
    return dataclasses.replace(stored, columns={**stored.columns, R2: np.asarray(steady.r2, dtype=float)})


def report(fit: StoredFit, genes: Int[np.ndarray, " fitted"]) -> None:
    """Say how the fit of each gene went."""
    model = fit.model[genes]
    for what, words in (("Genes", fit.status[genes]), ("Models", model[model != None])):  # noqa: E711
        if not len(words):
            continue
        names, counts = np.unique(words.astype(str), return_counts=True)
        logger.info("    %s: %s", what, ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True)))


def _standard_errors(covariance: np.ndarray) -> dict[str, np.ndarray]:
    """Of the logarithms of the rates in units of beta, which are sums of those of the curve's parameters."""
    result = {}
    for name, factors in _LOGARITHMS.items():
        c = np.array(factors, dtype=float)
        variance = np.einsum("p,gpq,q->g", c, covariance, c)
        # That of a fixed scaling is zero, but for rounding.
        result[f"fit_log_{name}_se"] = np.sqrt(np.maximum(variance, 0))
    return result
