"""How uncertain fates are, as far as the velocities are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import expit, logit, stdtrit

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

    Examples
    --------
    >>> ends = g.terminal_states.cat.codes.to_numpy()
    >>> found = jv.estimators.fate_uncertainty(kernel, ends, ["Fate A", "Fate B"], n_samples=10, seed=0)
    >>> bool((found.lower <= found.upper).all())
    True
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
    lies within 0 and 1; its half-width takes Student's distribution with as many degrees of freedom as draws.

    ``"monte_carlo"``: errors do not only scatter the fates: they make velocities longer and less like any displacement,
    which moves all fates one way. Independent errors cancel in the scatter, not in the shift. The given velocities have
    such errors already. Simulation and extrapolation (Cook & Stefanski 1994; Carroll et al. 2006, chapter 5) takes them
    away: with :math:`g` the logit of a fate, :math:`v` the velocities as they are and :math:`e` drawn errors, let

    .. math:: m_\lambda = \operatorname{mean} g(v + \sqrt\lambda e), \qquad
        s_\lambda^2 = \operatorname{Var} g(v + \sqrt\lambda e), \qquad \lambda = 1, 2,

    and :math:`m_0 = g(v)`, :math:`s_0 = 0`. At :math:`\lambda = -1` there would be no errors. The parabolas through
    these points are there

    .. math:: m_{-1} = 3 m_0 - 3 m_1 + m_2, \qquad -s_{-1}^2 = 3 s_1^2 - s_2^2,

    the second of which is the variance of the first (Stefanski & Cook 1995), taken as :math:`s_1^2` at least. The
    extrapolation is not exact: with :math:`d = m_0 - 2 m_1 + m_2`, by which the parabola differs from a straight line,
    the interval of the logit is :math:`m_{-1} \pm \sqrt{t^2 (3 s_1^2 - s_2^2) + d^2}`, where :math:`t` is Student's
    quantile with as many degrees of freedom as pairs of draws. The fates as they are need not lie in it. Draws are
    taken in pairs :math:`\pm e`, so that the means have no noise to first order. The linear interval knows nothing of
    the shift, and is right for small errors only.

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
        Number of draws; for Monte Carlo, which computes the fates twice for each, rounded up to whole pairs.
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

    On simulated trees, Monte Carlo is right for errors up to half the standard deviation of a gene's velocities over
    the cells, and the linear interval up to a tenth of it if they are shared, to a twentieth if not. Where errors are
    as large as the velocities, a parabola no longer finds the fates without them, and intervals hold too rarely; the
    more so with independent errors and many cells, as these make intervals narrow, but not the shift small.

    Examples
    --------
    >>> ends = g.terminal_states.cat.codes.to_numpy()
    >>> jv.estimators.fate_uncertainty(kernel, ends, ["Fate A", "Fate B"], n_samples=10, seed=0).upper.shape
    (150, 2)
    """
    fates = VelocityFates.of_kernel(kernel, terminal, names)
    if method not in METHODS:
        raise ValueError(f"Expected `method` to be one of {METHODS}, found `{method!r}`.")
    if not is_number(level) or not 0 < level < 1:
        raise ValueError(f"Expected `level` to be a number between 0 and 1, found `{level!r}`.")
    check_integer("n_samples", n_samples, least=4)
    errors = _standard_errors(fates, standard_errors)
    with timed("Computing the uncertainty of the fates"):
        keys = jax.random.split(random_key(seed), n_samples if method == "linear" else (n_samples + 1) // 2)
        arguments = fates.features.v, errors, keys, fates.features, fates.chance
        options = fates.kernel.features_name, len(fates.names), bool(shared)
        if method == "linear":
            found, square, outcome = _linear(*arguments, *options)
            fates.require(outcome)
            probabilities, spread = np.asarray(found, np.float64), np.sqrt(np.asarray(square, np.float64))
            lower, upper = _logit_normal(probabilities, spread, float(stdtrit(n_samples, (1 + level) / 2)))
        else:
            found, mean, variance, outcome = _redrawn(*arguments, *options)
            fates.require(outcome)
            probabilities, spread = np.asarray(found, np.float64), np.sqrt(np.asarray(variance[-1], np.float64))
            shift, of_logits = (np.asarray(each[:-1], np.float64) for each in (mean, variance))
            quantile = float(stdtrit(len(keys), (1 + level) / 2))
            rounding = float(jnp.finfo(found.dtype).eps)
            lower, upper = _extrapolated(probabilities, shift, of_logits, quantile, rounding)
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
    """Fates; mean shift and variance of the logit, with errors of once and twice the variance, and of the fates."""

    def fates(v):
        found = fates_of_velocities(v, features, chance, name, n_fates)
        return found.probabilities, found.outcome

    def clipped_logit(probabilities):
        # Below the rounding of the fates, logits are nothing but noise.
        eps = jnp.finfo(probabilities.dtype).eps
        return jax.scipy.special.logit(jnp.clip(probabilities, eps, 1 - eps))

    def shift(size, noise):
        probabilities, outcome = fates(v + size * noise)
        return jnp.stack([clipped_logit(probabilities) - here, probabilities - found]), outcome

    def add(totals, key):
        noise = _noise(key, errors, is_shared)
        draws, outcomes = jax.lax.map(lambda size: shift(size, noise), sizes)
        once, twice = draws[:2], draws[2:]
        signs = jnp.stack([once[:, 0], twice[:, 0], once[:, 1]], axis=1)
        odd, even = (signs[0] - signs[1]) / 2, (signs[0] + signs[1]) / 2
        return tuple(total + each for total, each in zip(totals, (even, even**2, odd**2), strict=True)), outcomes

    sizes = jnp.array([1, -1, 2**0.5, -(2**0.5)], errors.dtype)
    found, outcome = fates(v)
    here, n_pairs = clipped_logit(found), keys.shape[0]
    zero = jnp.zeros((3, *found.shape), found.dtype)
    (even, even_square, odd_square), outcomes = jax.lax.scan(add, (zero, zero, zero), keys)
    # The mean of the odd part is known to be zero, that of the even part is not.
    variance = odd_square / n_pairs + jnp.maximum(even_square - even**2 / n_pairs, 0) / (n_pairs - 1)
    return found, even / n_pairs, variance, jnp.append(outcomes, outcome)


def _extrapolated(
    probabilities: Float[np.ndarray, "cells fates"],
    shift: Float[np.ndarray, "2 cells fates"],
    variance: Float[np.ndarray, "2 cells fates"],
    quantile: float,
    rounding: float,
) -> tuple[Float[np.ndarray, "cells fates"], Float[np.ndarray, "cells fates"]]:
    """Interval from the logits of draws; where the probability is 0 or 1, that number."""
    middle = logit(np.clip(probabilities, rounding, 1 - rounding)) - 3 * shift[0] + shift[1]
    spread = np.sqrt(np.maximum(3 * variance[0] - variance[1], variance[0]))
    half = np.hypot(quantile * spread, shift[1] - 2 * shift[0])
    lower, upper = expit(middle - half), expit(middle + half)
    lower, upper = np.where(lower < 2 * rounding, 0, lower), np.where(upper > 1 - 2 * rounding, 1, upper)
    inside = (probabilities > 0) & (probabilities < 1)
    return np.where(inside, lower, probabilities), np.where(inside, upper, probabilities)


def _logit_normal(
    probabilities: np.ndarray, spread: np.ndarray, quantile: float
) -> tuple[Float[np.ndarray, "cells fates"], Float[np.ndarray, "cells fates"]]:
    """Interval of a normal logit; where the probability is 0 or 1, that number."""
    inside = (probabilities > 0) & (probabilities < 1)
    p = np.where(inside, probabilities, 0.5)
    half = quantile * spread / (p * (1 - p))
    lower, upper = (np.where(inside, expit(logit(p) + side * half), probabilities) for side in (-1, 1))
    return lower, upper
