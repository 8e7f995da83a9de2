"""What a fit of the dynamical model leaves in an AnnData object, under scVelo's names, and its rates."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Bool, Float

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import dense
from jaxvelo.annotated.entries import read_numbers, require_key
from jaxvelo.dynamics import SplicingKinetics

# Numbers that a fit of the dynamical model leaves for each gene, and times of the cells; first those that scVelo's fit
# does not write.
OWN_COLUMNS = tuple(
    f"fit_{name}"
    for name in (
        *("residual", "explained", "gradual_slope", "ratio", "log_ratio_se", "velocity_of"),
        *("log_alpha_se", "log_gamma_se", "log_t__se", "log_scaling_se"),
    )
)
FIT_COLUMNS = OWN_COLUMNS + tuple(
    f"fit_{name}"
    for name in (
        *("alpha", "beta", "gamma", "t_", "scaling", "std_u", "std_s", "likelihood", "variance"),
        *("u0", "s0", "steady_u", "steady_s", "alignment_scaling", "pval_steady"),
    )
)
VELOCITY, VELOCITY_OF, GRADUAL_SLOPE = "fit_velocity", "fit_velocity_of", "fit_gradual_slope"
CURVE_LAYERS = ("fit_tau", "fit_tau_", "fit_on")
FIT_LAYERS = ("fit_t", *CURVE_LAYERS, VELOCITY)
OWN_LAYERS = ("fit_on", VELOCITY)
COVARIANCE, LOSS, EVIDENCE = FIT_ARRAYS = ("fit_covariance", "loss", "fit_evidence")
OWN_ARRAYS = (COVARIANCE, EVIDENCE)
R2, STATUS, MODEL = "fit_r2", "fit_status", "fit_model"
FIT_FIRST = "Fit the dynamical model first: `jaxvelo.tl.recover_dynamics(adata)`."
RATES = ("fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling")


def has_fit(adata: AnnData) -> bool:
    """Whether there are rates, likelihoods and times of genes."""
    return {*RATES, "fit_likelihood"} <= set(adata.var) and "fit_t" in adata.layers


def read_kinetics(adata: AnnData) -> tuple[SplicingKinetics, np.ndarray]:
    """Read the rates of the genes that have a fit.

    scVelo's ``fit_beta`` is per observed unspliced count; the model's is that times the scaling.

    Returns
    -------
    tuple
        Rates, and the mask of their genes.
    """
    columns = []
    for key in RATES:
        columns.append(read_numbers(adata.var, key, "adata.var", FIT_FIRST))
    alpha, beta, gamma, switching_time, scaling = columns
    fitted = np.all([np.isfinite(x) & (x > 0) for x in columns], axis=0)
    if not fitted.any():
        raise ValueError(
            f"Expected genes with a fit, positive numbers in `adata.var` of {', '.join(RATES)}, found none. {FIT_FIRST}"
        )
    kept = (alpha, beta * scaling, gamma, switching_time, scaling)
    return SplicingKinetics(*(jnp.asarray(x[fitted], dtype=float) for x in kept)), fitted


def kinetics_columns(kinetics: SplicingKinetics) -> dict[str, np.ndarray]:
    """Columns of ``adata.var``, in the order of the genes of the rates."""
    scaling = np.asarray(kinetics.scaling, dtype=float)
    values = (
        np.asarray(kinetics.alpha, dtype=float),
        np.asarray(kinetics.beta, dtype=float) / scaling,
        np.asarray(kinetics.gamma, dtype=float),
        np.asarray(kinetics.switching_time, dtype=float),
        scaling,
    )
    return dict(zip(RATES, values, strict=True))


def number_of_rates(rates: Sequence[Float[np.ndarray, " genes"]]) -> Float[np.ndarray, " genes"]:
    """One number for the rates of each gene, in the order of ``RATES``, which other rates do not have; NaN for none."""
    numbers = np.array(rates, dtype=float)
    known = (numbers > 0) & (numbers < np.inf)
    logarithms = np.log(np.where(known, numbers, 1.0))
    # No product of powers of the rates that one meets, such as in another unit of time, leaves their sum the same.
    return np.where(known.all(axis=0), np.sqrt([2, 3, 5, 7, 11]) @ logarithms, np.nan)


def rates_are_those_of(
    columns: Mapping[str, Float[np.ndarray, " genes"]], name: str = VELOCITY_OF
) -> Bool[np.ndarray, " genes"]:
    """Mask of the genes whose rates are those that a column has the number of, but for rounding to single precision."""
    if name not in columns:
        return np.zeros(len(columns[RATES[0]]), dtype=bool)
    return np.isclose(columns[name], number_of_rates([columns[rate] for rate in RATES]), rtol=0, atol=1e-4)


def of_other_rates(adata: AnnData) -> Bool[np.ndarray, " genes"]:
    """Mask of the genes whose rates are not those that a fit of jaxvelo has noted: another fit has changed them since.

    Of such genes, what that fit has left beside the rates, and others do not write, describes nothing that is there:
    probabilities of the branches, velocities, covariances, model, evidence and status. Velocities without such a note
    are of unknown rates.
    """
    if not set(RATES) <= set(adata.var) or (VELOCITY_OF not in adata.var and VELOCITY not in adata.layers):
        return np.zeros(adata.n_vars, dtype=bool)
    names = (name for name in (VELOCITY_OF, *RATES) if name in adata.var)
    columns = {name: read_numbers(adata.var, name, "adata.var", FIT_FIRST) for name in names}
    has_rates = np.isfinite(number_of_rates([columns[name] for name in RATES]))
    return has_rates & ~rates_are_those_of(columns)


def read_covariances(adata: AnnData, remedy: str) -> Float[np.ndarray, "genes 4 4"] | None:
    """Covariance of the parameters of each gene's curve; None if there are none.

    Raises
    ------
    ValueError
        If they have another shape.
    """
    if COVARIANCE not in adata.varm:
        return None
    covariances = dense(adata.varm[COVARIANCE])
    if covariances.shape != (adata.n_vars, 4, 4):
        raise ValueError(
            f"Expected `adata.varm[{COVARIANCE!r}]` to have the shape {(adata.n_vars, 4, 4)}, found "
            f"{covariances.shape} among {listed(adata.varm)}. {remedy}"
        )
    return covariances


def read_times(adata: AnnData, min_likelihood: float | None) -> Float[np.ndarray, "cells genes"]:
    """Times of the genes with a fit that is good enough.

    Raises
    ------
    KeyError
        If there is no fit.
    ValueError
        If no gene's fit is good enough.
    """
    remedy = "Fit the dynamical model first as `jaxvelo.tl.recover_dynamics(adata)`."
    times = require_key(adata.layers, "fit_t", "adata.layers", remedy)
    times = times.toarray() if sp.issparse(times) else np.asarray(times)
    good = np.isfinite(times).all(axis=0)
    n_fitted = int(np.count_nonzero(good))
    if min_likelihood is not None:
        likelihood = read_numbers(adata.var, "fit_likelihood", "adata.var", f"{remedy} Or pass `min_likelihood=None`.")
        # A comparison with NaN, the likelihood of a gene without a fit, is false.
        good &= likelihood >= min_likelihood
    if not good.any():
        raise ValueError(
            f"Expected genes with finite times in `adata.layers['fit_t']` and `adata.var['fit_likelihood']` from "
            f"{min_likelihood} on, found none ({n_fitted} with finite times). {remedy} Or choose a lower "
            "`min_likelihood`."
        )
    return times[:, good]


def number_of_gene(adata: AnnData, key: str, gene: int, default: float) -> float:
    """Return one gene's number from a column of ``var`` that need not exist."""
    if key not in adata.var:
        return default
    return float(adata.var[key].to_numpy(dtype=float, na_value=np.nan)[gene])
