"""What a fit of the dynamical model leaves in an AnnData object, under scVelo's names, and its rates."""

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.entries import read_numbers
from jaxvelo.dynamics import SplicingKinetics

# Numbers that a fit of the dynamical model leaves for each gene, jaxvelo's or scVelo's, and times of the cells.
FIT_COLUMNS = tuple(
    f"fit_{name}"
    for name in (
        *("alpha", "beta", "gamma", "t_", "scaling", "std_u", "std_s", "likelihood", "variance", "residual"),
        *("u0", "s0", "steady_u", "steady_s", "alignment_scaling", "pval_steady"),
        *("log_alpha_se", "log_gamma_se", "log_t__se", "log_scaling_se"),
    )
)
FIT_LAYERS = ("fit_t", "fit_tau", "fit_tau_", "fit_on")
FIT_ARRAYS = ("fit_covariance", "loss")
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
