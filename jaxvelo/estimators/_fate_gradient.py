"""What every gene's velocity does to the fates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.configuration import timed
from jaxvelo.estimators._fates_of_velocities import VelocityFates, fates_of_velocities
from jaxvelo.kernels import KernelExpression


class FateGradient(NamedTuple):
    r"""Effects of the genes' velocities on the fates.

    Attributes
    ----------
    score
        Genes by fates: how consistently more velocity of the gene leads to the fate. The derivatives of each cell,
        :math:`\partial F_k / \partial v_i`, as a vector of length one, :math:`u_{ig}`; then their mean over their
        root mean square, :math:`\sum_i u_{ig} / (n \sum_i u_{ig}^2)^{1/2}`: 1 if more of the gene's velocity makes the
        fate likelier, and equally so, in all of the n cells that matter to it, and -1 if less likely. Each cell counts
        the same, not by how often it is passed nor by how undecided it is. In simulations it ranks the genes behind a
        fate better than ``effect`` does.
    effect
        Genes by fates: change of the mean probability of the fate if the velocity of the gene were larger by its own
        size, to first order, :math:`\sum_i v_{ig} \, \partial F_k / \partial v_{ig}`.
    of_cells
        :math:`\partial F_k / \partial v_{ig}`, shape ``(fates, cells, genes)``; ``None`` unless asked for.

    Examples
    --------
    >>> ends = g.terminal_states.cat.codes.to_numpy()
    >>> found = jv.estimators.fate_gradient(kernel, ends, ["Fate A", "Fate B"])
    >>> found.score.shape  # genes, fates
    (28, 2)
    """

    score: pd.DataFrame
    effect: pd.DataFrame
    of_cells: Float[np.ndarray, "fates cells genes"] | None


def fate_gradient(
    kernel: KernelExpression,
    terminal: Any,
    names: Sequence[str],
    cells: Any = None,
    of_cells: bool = False,
) -> FateGradient:
    r"""Derivatives of the fates by the velocities of all cells and genes, in one backward pass for each fate.

    With :math:`F_k` the mean over some cells of the probability to end in fate k, its derivative by the velocity
    :math:`v_{ig}` goes back through the equations of the fates, by one solve with their transpose, and through the
    transition probabilities. It says which genes the kernel's fates follow from. (A correlation of expression with
    fates says which genes differ between the lineages, and names more of the genes that are switched on in one branch
    of a simulation.)

    Parameters
    ----------
    kernel
        A velocity kernel, or a combination with one, computed.
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    names
        Name of each class.
    cells
        Cells over which the mean is taken: names, numbers, a mask, or ``{"clusters": ["Ductal"]}``; all that are not
        terminal if ``None``.
    of_cells
        Whether to return the derivatives themselves too.

    Returns
    -------
    Tables of genes by fates.

    Raises
    ------
    KeyError, IndexError, ValueError, TypeError
        If an argument is not one of the above.
    ArithmeticError
        If the fates are not known.

    Examples
    --------
    >>> ends = g.terminal_states.cat.codes.to_numpy()
    >>> jv.estimators.fate_gradient(kernel, ends, ["Fate A", "Fate B"]).effect.shape  # genes, fates
    (28, 2)
    """
    fates = VelocityFates.of_kernel(kernel, terminal, names)
    n_cells, n_genes = fates.shape
    weight = np.zeros(n_cells)
    chosen = fates.terminal < 0 if cells is None else chosen_cells(kernel.adata, cells, "cells")
    if not (chosen & (fates.terminal < 0)).any():
        raise ValueError("Expected `cells` to choose some that are not terminal, whose fates are fixed, found none.")
    weight[chosen] = 1
    with timed("Computing the gradient of the fates by the velocities"):
        v = fates.features.v
        cotangents = np.eye(len(fates.names))[:, None, :] * (weight / weight.sum())[None, :, None]
        gradient, scores, effects, outcome = _gradients(
            v, jnp.asarray(cotangents, v.dtype), fates.features, fates.chance, fates.kernel.features_name, of_cells
        )
        fates.require(outcome)
    score, effect = (
        pd.DataFrame(np.asarray(table).T[:n_genes], index=fates.kernel.genes, columns=fates.names)
        for table in (scores, effects)
    )
    return FateGradient(score, effect, np.asarray(gradient)[:, :n_cells, :n_genes] if of_cells else None)


@eqx.filter_jit
def _gradients(v, cotangents, features, chance, name: str, keep: bool):
    def fates(v):
        found = fates_of_velocities(v, features, chance, name, cotangents.shape[2])
        return found.probabilities, found.outcome

    _, pull, outcome = jax.vjp(fates, v, has_aux=True)

    def back(cotangent):
        (gradient,) = pull(cotangent)
        return gradient if keep else None, consistency(gradient), jnp.sum(gradient * v, axis=0)

    return *jax.lax.map(back, cotangents), outcome


def consistency(gradient: Float[Array, "rows columns"]) -> Float[Array, " columns"]:
    """How much the same derivatives have the same sign in all cells: ``score`` of :class:`FateGradient`."""
    largest = jnp.max(jnp.abs(gradient), axis=1, keepdims=True)
    matters = largest > 0
    # In two steps: squares of small derivatives may be too small for single precision.
    relative = gradient / jnp.where(matters, largest, 1)
    unit = relative / jnp.where(matters, jnp.linalg.norm(relative, axis=1, keepdims=True), 1)
    squares = jnp.sum(matters.astype(unit.dtype)) * jnp.sum(unit**2, axis=0)
    return jnp.sum(unit, axis=0) / jnp.sqrt(jnp.where(squares > 0, squares, 1))
