"""How uncertain fates are, as far as the velocities are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import expit, logit, ndtri

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.configuration import timed
from jaxvelo.estimators._fates_of_velocities import VelocityFates, fates_of_velocities
from jaxvelo.graph import neighborhood_moments
from jaxvelo.kernels import KernelExpression
from jaxvelo.kernels._randomness import random_key

METHODS = ("monte_carlo", "linear")


class FateUncertainty(NamedTuple):
    """Fates with what the errors of the velocities make of them; all of shape ``(cells, fates)``.

    Attributes
    ----------
    probabilities
        Fates at the velocities as they are.
    standard_deviation
        Standard deviation of each probability.
    lower, upper
        Interval of each probability, within 0 and 1.
    """

    probabilities: Float[np.ndarray, "cells fates"]
    standard_deviation: Float[np.ndarray, "cells fates"]
    lower: Float[np.ndarray, "cells fates"]
    upper: Float[np.ndarray, "cells fates"]


def fate_uncertainty(
    kernel: KernelExpression,
    terminal: Any,
    names: Sequence[str],
    standard_errors: Any = None,
    method: Literal["linear", "monte_carlo"] = "monte_carlo",
    level: float = 0.9,
    n_samples: int = 100,
    shared: bool = True,
    seed: int | jax.Array | None = None,
) -> FateUncertainty:
    r"""Standard deviations and intervals of fates, from normal errors of the velocities.

    ``"linear"``: to first order, the variance of a fate is

    .. math:: \operatorname{Var}[B_{ik}] = \sum_{cg} (\partial B_{ik} / \partial v_{cg})^2 s_{cg}^2

    for independent errors, and :math:`\sum_g (\sum_c s_{cg} \, \partial B_{ik} / \partial v_{cg})^2` for shared ones.
    The sum would take one derivative for each cell and fate. Instead, random errors of all velocities are drawn, and
    each draw's directional derivative (of all cells and fates at once) squared: its expectation is this variance, so
    that the mean over the draws has no bias, and a relative error of :math:`\sqrt{2 / \text{samples}}`. The interval is
    that of a normal logit, :math:`\operatorname{logit} B_{ik}` with the standard deviation that follows, so that it
    lies within 0 and 1.

    ``"monte_carlo"``: velocities are drawn, and transition matrix and fates computed anew for each draw. Errors do not
    only scatter the fates: they make velocities longer and less like any displacement, which moves all fates one way.
    As the given velocities have such errors already, what a draw adds is what is to be taken away: the interval is
    that between the quantiles of the draws' logits, mirrored at the logit of the fates as they are (Davison & Hinkley
    1997, section 5.2). The linear interval knows nothing of this, and is right for small errors only.

    Parameters
    ----------
    kernel
        A velocity kernel, or a combination with one, computed. Its softmax scale stays as it is.
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    names
        Name of each class.
    standard_errors
        Standard errors :math:`s_{cg}` of the velocities: a key in ``adata.layers``, or an array of shape
        ``(cells, genes)`` for all genes or for ``kernel.genes``. If ``None``, the spread of the velocities over each
        cell and its neighbours, as the stochastic model takes it.
    method
        ``"monte_carlo"`` or ``"linear"``.
    level
        Probability that an interval is to hold.
    n_samples
        Number of draws.
    shared
        Whether the error of a gene is the same in all cells, but for its size, or independent from cell to cell. An
        error of the gene's rates is shared, one of a cell's counts nearly so by the neighbours whose mean it enters.
        Fates follow from many cells' velocities, so that independent errors cancel, and intervals are several times
        as narrow.
    seed
        Seed or random key of the draws.

    Returns
    -------
    Standard deviations and intervals.

    Raises
    ------
    ValueError, TypeError, KeyError
        If an argument is not one of the above.
    ArithmeticError
        If the fates are not known.

    Notes
    -----
    The interval covers what errors of the given size in the velocities do to the fates *of the kernel*. It knows
    nothing of errors of the graph, of the kernel's model of a step (its softmax scale above all), of the choice of
    terminal cells, nor of velocities that are wrong in all genes at once. So it holds the fates of the kernel with the
    true velocities about as often as its level says, if the standard errors are right, but not those of the cells: on
    simulated ones, whose true fates are 0 or 1 after the branching and never quite so in a kernel, it rarely does.
    """
    fates = VelocityFates.of_kernel(kernel, terminal, names)
    if method not in METHODS:
        raise ValueError(f"Expected `method` to be one of {METHODS}, found `{method!r}`.")
    if not is_number(level) or not 0 < level < 1:
        raise ValueError(f"Expected `level` to be a number between 0 and 1, found `{level!r}`.")
    check_integer("n_samples", n_samples, least=2)
    errors = _standard_errors(fates, standard_errors)
    with timed("Computing the uncertainty of the fates"):
        keys = jax.random.split(random_key(seed), n_samples)
        arguments = fates.features.v, errors, keys, fates.features, fates.chance
        options = fates.kernel.features_name, len(fates.names), bool(shared)
        if method == "linear":
            found, square, outcome = _linear(*arguments, *options)
            fates.require(outcome)
            probabilities, spread = np.asarray(found, np.float64), np.sqrt(np.asarray(square, np.float64))
            lower, upper = _logit_normal(probabilities, spread, level)
        else:
            found, draws, outcome = _redrawn(*arguments, *options)
            fates.require(outcome)
            probabilities, samples = np.asarray(found, np.float64), np.asarray(draws, np.float64)
            spread = samples.std(axis=0, ddof=1)
            lower, upper = _mirrored(probabilities, samples, level)
    return FateUncertainty(probabilities, spread, lower, upper)


def _standard_errors(fates: VelocityFates, given: Any) -> Float[Array, "rows columns"]:
    kernel, (n_cells, n_genes) = fates.kernel, fates.shape
    if given is None:
        return _spread(fates.chance[1], fates.features.v, kernel.transition_function.edges_name, n_cells)
    what = "`standard_errors`"
    if isinstance(given, str):
        what = f"`adata.layers[{given!r}]`"
        if given not in kernel.adata.layers:
            raise KeyError(
                f"Expected standard errors of the velocities in {what}, found the layers "
                f"{sorted(map(str, kernel.adata.layers))}."
            )
        given = kernel.adata.layers[given]
    errors = np.asarray(given.toarray() if hasattr(given, "toarray") else given)
    if errors.shape == kernel.adata.shape and errors.shape != fates.shape:
        errors = errors[:, kernel.adata.var_names.get_indexer(kernel.genes)]
    if errors.shape != fates.shape or errors.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected {what} to be one number for each of the {n_cells} cells and {n_genes} genes in use "
            f"(`kernel.genes`), or for all genes, found {errors.dtype} of shape {errors.shape}."
        )
    if not (np.isfinite(errors).all() and (errors >= 0).all()):
        raise ValueError(f"Expected {what} to be finite and not negative for all genes in use. Choose other genes.")
    return fates.padded(errors)


@eqx.filter_jit
def _spread(graph, v, edges_name: str, n_cells: int) -> Array:
    _, variance = neighborhood_moments(graph.pattern, graph.edges[edges_name].values, v)
    of_cells = jnp.sqrt(jnp.maximum(graph.gather_rows(variance), 0))
    return jnp.zeros_like(v).at[:n_cells].set(of_cells[:n_cells])


def _noise(key: Array, errors: Array, is_shared: bool) -> Array:
    shape = (1, errors.shape[1]) if is_shared else errors.shape
    return errors * jax.random.normal(key, shape, errors.dtype)


@eqx.filter_jit
def _linear(v, errors, keys, features, chance, name: str, n_fates: int, is_shared: bool):
    def fates(v):
        found = fates_of_velocities(v, features, chance, name, n_fates)
        return found.probabilities, found.outcome

    probabilities, derivative, outcome = jax.linearize(fates, v, has_aux=True)

    def add(total, key):
        return total + derivative(_noise(key, errors, is_shared)) ** 2, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(probabilities), keys)
    return probabilities, total / keys.shape[0], outcome


@eqx.filter_jit
def _redrawn(v, errors, keys, features, chance, name: str, n_fates: int, is_shared: bool):
    def fates(v):
        found = fates_of_velocities(v, features, chance, name, n_fates)
        return found.probabilities, found.outcome

    found, outcome = fates(v)
    draws, outcomes = jax.lax.map(lambda key: fates(v + _noise(key, errors, is_shared)), keys)
    return found, draws, jnp.append(outcomes, outcome)


def _mirrored(
    probabilities: np.ndarray, samples: np.ndarray, level: float
) -> tuple[Float[np.ndarray, "cells fates"], Float[np.ndarray, "cells fates"]]:
    """Basic bootstrap interval of the logit; where the probability is 0 or 1, that number."""
    inside = (probabilities > 0) & (probabilities < 1)
    tiny = np.finfo(np.float64).eps
    middle = logit(np.where(inside, probabilities, 0.5))
    quantiles = np.quantile(samples, [(1 + level) / 2, (1 - level) / 2], axis=0)
    low, high = (2 * middle - logit(np.clip(quantile, tiny, 1 - tiny)) for quantile in quantiles)
    return np.where(inside, expit(low), probabilities), np.where(inside, expit(high), probabilities)


def _logit_normal(
    probabilities: np.ndarray, spread: np.ndarray, level: float
) -> tuple[Float[np.ndarray, "cells fates"], Float[np.ndarray, "cells fates"]]:
    """Interval of a normal logit; where the probability is 0 or 1, that number."""
    inside = (probabilities > 0) & (probabilities < 1)
    p = np.where(inside, probabilities, 0.5)
    half = ndtri((1 + level) / 2) * spread / (p * (1 - p))
    lower, upper = (np.where(inside, expit(logit(p) + side * half), probabilities) for side in (-1, 1))
    return lower, upper
