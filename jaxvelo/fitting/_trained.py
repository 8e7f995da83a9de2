"""What a user wants to fit, and how it is to differ among cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.kernels import KernelExpression

APART = "apart"
"""The wish for one value where the items of the objective tell something, and another one elsewhere."""
_NEEDED = {
    "scale": "a `VelocityKernel`",
    "weights": "a sum of at least two weighted kernels",
    "numbers": "a kernel with numbers to fit, such as a soft `PseudotimeKernel`,",
    "gene_weights": "a `VelocityKernel`",
}
LEVELS_APART = ["known", "other"]
N_FUNCTIONS = 10
"""Smooth functions on the graph behind weights or scales that differ from cell to cell."""


def wishes(
    train: Mapping[str, Any] | Sequence[str] | None, has_velocity: bool, has_sum: bool, has_numbers: bool
) -> dict[str, Any]:
    """What to fit, in the order of :data:`jaxvelo.fit.TRAINABLE`, and how it differs among cells.

    Scales and weights that are only named are those of :data:`APART`.
    """
    possible = {"scale": has_velocity, "weights": has_sum, "numbers": has_numbers, "gene_weights": has_velocity}
    if train is None:
        train = [name for name in ("scale", "weights", "numbers") if possible[name]]
    if isinstance(train, str):
        train = [train]
    if not isinstance(train, Mapping):
        train = {name: APART if name in ("scale", "weights") else True for name in train}
    given = dict(train)
    unknown = [name for name in given if name not in fit.TRAINABLE]
    if unknown:
        raise ValueError(f"Expected `train` to name some of {fit.TRAINABLE}, found {listed(unknown)}.")
    given = {name: given[name] for name in fit.TRAINABLE if given.get(name) not in (None, False)}
    if not given:
        raise ValueError(f"Expected `train` to name some of {fit.TRAINABLE}, found none that this kernel has.")
    for name in given:
        if not possible[name]:
            raise ValueError(f"Expected {_NEEDED[name]} to fit {name!r}, found none in the kernel.")
    if given.get("numbers") not in (None, True):
        raise ValueError(f"Expected `train['numbers']` to be True: one for all cells, found `{given['numbers']!r}`.")
    kind = given.get("gene_weights")
    if kind not in (None, True, *fit.GENE_WEIGHT_PENALTIES):
        raise ValueError(
            f"Expected `train['gene_weights']` to be True or one of {fit.GENE_WEIGHT_PENALTIES}, found `{kind!r}`."
        )
    return given


def differing_cells(
    kernel: KernelExpression, wish: Any, name: str, outside: Bool[np.ndarray, " cells"]
) -> tuple[fit.LevelsOrFunctions, int, list[str]]:
    """How a parameter differs among cells, by how many coefficients, and the names of its levels."""
    if wish in (None, True) or (wish == APART and not outside.any()):
        return None, 1, []
    if wish == APART:
        return jnp.asarray(outside, dtype=jnp.int32), 2, LEVELS_APART
    if wish == "smooth":
        n_functions = min(N_FUNCTIONS, kernel.shape[0] - 1)
        weights = next(iter(kernel.graph_data.matrices.values()))
        return jnp.asarray(fit.smooth_functions(weights, n_functions), dtype=float), n_functions, []
    if not isinstance(wish, str):
        raise TypeError(f"Expected `train[{name!r}]` to be True, 'smooth' or a key in `adata.obs`, found `{wish!r}`.")
    codes, names = cluster_codes(kernel.adata, wish)
    if (codes < 0).any():
        raise ValueError(f"Expected a level of `adata.obs[{wish!r}]` for each cell, found {(codes < 0).sum()} without.")
    return jnp.asarray(codes, dtype=jnp.int32), len(names), names
