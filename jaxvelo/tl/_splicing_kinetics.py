"""Rates of the dynamical model in ``adata.var``, under scVelo's names, and back."""

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.entries import read_numbers
from jaxvelo.dynamics import SplicingKinetics

FIT_FIRST = "Fit the dynamical model first: `jaxvelo.tl.recover_dynamics(adata)`."
RATES = ("fit_alpha", "fit_beta", "fit_gamma", "fit_t_", "fit_scaling")


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
