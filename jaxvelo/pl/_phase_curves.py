"""Curves and lines of a gene's phase portrait, from the rates that are stored in ``var`` and ``varm``."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.fit_columns import (
    GRADUAL_SLOPE,
    MODEL,
    STATUS,
    number_of_gene,
    of_other_rates,
    read_covariances,
)
from jaxvelo.dynamics import GRADUAL, splicing_solution

if TYPE_CHECKING:
    from anndata import AnnData

N_POINTS = 150  # of each branch
LEFT = 1e-3  # what is left of a rate's exponential where repression ends


@dataclasses.dataclass(frozen=True)
class PhaseCurves:
    """What a model says about one gene, in observed units; spliced comes first along the last axis.

    ``induction``, ``repression`` and ``samples`` (both branches in one, each row a draw from the fit's uncertainty) are
    empty without a dynamical fit. ``slope`` is that of the steady states, through ``origin``; NaN without any fit.
    ``model`` names what gives the gene its velocity, the empty string if that is not said.
    """

    induction: Float[np.ndarray, "points 2"]
    repression: Float[np.ndarray, "points 2"]
    samples: Float[np.ndarray, "samples points 2"]
    slope: float
    origin: Float[np.ndarray, " 2"]
    note: str
    model: str = ""


def read_phase_curves(adata: "AnnData", gene: int, vkey: str, n_samples: int, seed: int) -> PhaseCurves:
    r"""Read the fit of one gene.

    With the dynamical model's columns of ``var`` (scVelo's), :math:`\beta = ` ``fit_beta * fit_scaling`` and
    :math:`\tau = \beta t`, the curve of observed unspliced and spliced abundance is

    .. math::
        u = U \hat u(\tau), \quad s = S \hat s(\tau), \qquad
        \hat u' = k - \hat u, \quad \hat s' = g (\hat u - \hat s), \qquad
        U = \mathrm{fit\_scaling} \cdot \alpha / \beta, \quad S = \alpha / \gamma, \quad g = \gamma / \beta,

    from zero, with :math:`k = 1` up to :math:`T = \beta\, \mathrm{fit\_t\_}` and 0 after it, moved by ``fit_u0`` and
    ``fit_s0``. Its steady states lie on the line with slope :math:`U / S`; those of a gene whose velocity is that of
    gradual transcription on the line of this model, with the slope ``fit_gradual_slope``. What a fit has left of other
    rates than those that are there, its model, status and covariance, is not heeded.

    Parameters
    ----------
    adata
        ``var`` with ``fit_alpha`` and its like, or ``f"{vkey}_gamma"``; neither is needed. The covariance of
        :math:`\log U, \log S, \log g, \log T` is taken from ``varm["fit_covariance"]``, of shape (genes, 4, 4).
    gene
        Its place in ``var``.
    vkey
        Start of the columns of a steady-state model.
    n_samples, seed
        Number of curves to draw from the normal approximation, and seed of the draw.

    Raises
    ------
    KeyError
        If some columns of a fit are there and others are not.
    ValueError
        If the covariance has another shape.
    """
    nothing = np.empty((0, 2))
    if "fit_alpha" not in adata.var:
        slope = number_of_gene(adata, f"{vkey}_gamma", gene, np.nan)
        origin = np.array([0.0, number_of_gene(adata, f"{vkey}_offset", gene, 0.0)])
        return PhaseCurves(nothing, nothing, np.empty((0, 0, 2)), slope, origin, "")

    remedy = "Fit the dynamical model again, or remove `adata.var['fit_alpha']` to draw without it."
    for key in ("fit_beta", "fit_gamma", "fit_t_"):
        require_key(adata.var, key, "adata.var", remedy)
    alpha, beta, gamma, switch = (
        number_of_gene(adata, f"fit_{key}", gene, np.nan) for key in ("alpha", "beta", "gamma", "t_")
    )
    scaling = number_of_gene(adata, "fit_scaling", gene, 1.0)
    origin = np.array([number_of_gene(adata, "fit_s0", gene, 0.0), number_of_gene(adata, "fit_u0", gene, 0.0)])
    rates = np.array([alpha, beta, gamma, switch, scaling])
    covariances = read_covariances(adata, "Fit the dynamical model again, or pass `n_samples=0`.")
    if not (np.isfinite(rates).all() and (rates > 0).all()):
        return PhaseCurves(nothing, nothing, np.empty((0, 0, 2)), np.nan, origin, _note(adata, gene, "no fit"))

    # Times β of the model, β = fit_beta * fit_scaling, so that U = alpha / fit_beta.
    center = np.log([alpha / beta, alpha / gamma, gamma / (beta * scaling), switch * beta * scaling])
    samples = np.empty((0, 0, 2))
    note = ""
    model = _word(adata, MODEL, gene)
    if covariances is not None and n_samples:
        covariance = covariances[gene].astype(float)
        if np.isfinite(covariance).all() and not of_other_rates(adata)[gene]:
            draws = _draw(center, covariance, n_samples, seed)
            samples = np.concatenate(_branches(draws), axis=1) + origin
        else:
            note = "uncertainty unknown"
    induction, repression = _branches(center[None])
    slope = number_of_gene(adata, GRADUAL_SLOPE, gene, np.nan) if model == GRADUAL else np.nan
    return PhaseCurves(
        induction[0] + origin,
        repression[0] + origin,
        samples,
        slope if np.isfinite(slope) else gamma / beta,
        origin,
        _note(adata, gene, note),
        model,
    )


def _note(adata: "AnnData", gene: int, about_fit: str) -> str:
    """Say in a few words how good the fit is, and which model gives the velocity."""
    parts = []
    likelihood = number_of_gene(adata, "fit_likelihood", gene, np.nan)
    if np.isfinite(likelihood):
        parts.append(f"likelihood {likelihood:.2f}")
    parts += [
        f"{prefix}{word}" for key, prefix in ((STATUS, ""), (MODEL, "model: ")) if (word := _word(adata, key, gene))
    ]
    if about_fit != "no fit":
        parts.append(about_fit)
    elif parts != ["not fitted"]:  # which says it already
        parts.insert(0, about_fit)
    return ", ".join(filter(None, parts))


def _word(adata: "AnnData", key: str, gene: int) -> str:
    """One gene's word from a column of ``var``; the empty string if there is none, or it is of other rates."""
    word = adata.var[key].iloc[gene] if key in adata.var and not of_other_rates(adata)[gene] else None
    return str(word) if word == word and word is not None else ""  # a missing value is not equal to itself


def _draw(
    center: Float[np.ndarray, " 4"], covariance: Float[np.ndarray, "4 4"], n_samples: int, seed: int
) -> Float[np.ndarray, "samples 4"]:
    """Draw from a normal distribution; a covariance that rounding made indefinite is taken as semidefinite."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    noise = np.random.default_rng(seed).standard_normal((n_samples, 4)) * np.sqrt(np.maximum(values, 0.0))
    # Beyond any picture, but within what exponentials can hold.
    return center + np.clip(noise @ vectors.T, -30.0, 30.0)


def _branches(
    log_parameters: Float[np.ndarray, "curves 4"],
) -> tuple[Float[np.ndarray, "curves points 2"], Float[np.ndarray, "curves points 2"]]:
    """Give points on induction, and on repression from there on, for rows of log U, log S, log g, log T.

    Times are spaced geometrically after each switch, so that the bends are smooth, however fast.
    """
    U, S, g, T = np.exp(log_parameters)[..., None].transpose(1, 0, 2)
    size = np.stack([S, U], axis=-1)
    induction = _normalized_solution(_times(T, g), np.zeros((len(g), 2)), 1.0, g)
    end = -np.log(LEFT) / np.minimum(1.0, g)
    repression = _normalized_solution(_times(end, g), induction[:, -1], 0.0, g)
    return size * induction, size * repression


def _times(end: Float[np.ndarray, "curves 1"], g: Float[np.ndarray, "curves 1"]) -> Float[np.ndarray, "curves points"]:
    start = 1e-2 * np.minimum(end, 1.0 / np.maximum(1.0, g))
    return np.concatenate([np.zeros_like(end), np.geomspace(start[:, 0], end[:, 0], N_POINTS - 1, axis=-1)], axis=-1)


def _normalized_solution(
    tau: Float[np.ndarray, "curves points"],
    initial: Float[np.ndarray, "curves 2"],
    target: float,
    g: Float[np.ndarray, "curves 1"],
) -> Float[np.ndarray, "curves points 2"]:
    r"""Solve :math:`\hat u' = k - \hat u, \hat s' = g (\hat u - \hat s)`, spliced first, at any ratio of the rates.

    With :math:`\hat u = u` and :math:`\hat s = g s` that is the kinetics of splicing with :math:`\alpha = k`,
    :math:`\beta = 1`, :math:`\gamma = g`. In double precision: rates drawn from the tails of an uncertain fit need it.
    """
    s0, u0 = initial[:, :1], initial[:, 1:]
    u, s = splicing_solution(tau, u0, s0 / g, target, 1.0, g, xp=np)
    return np.stack([g * s, u], axis=-1)
