"""How well kernels do on some cells: losses of items, their means and standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxvelo import fit
from jaxvelo.fitting._split import Groups, Split
from jaxvelo.graph._precision import full_precision


@full_precision
@eqx.filter_jit
def item_losses(problem: fit.Problem, parameters: fit.Parameters):
    """Loss of each item, and what is predicted of every cell, for each term of the objective."""
    return problem.item_losses(parameters)


def shares(objective: fit.Loss, cells: np.ndarray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Coefficient of each term, cell of each of its items, and part that the item has in the mean over ``cells``."""
    coefficients = np.asarray(fit.coefficients_of(objective), dtype=np.float64)
    for coefficient, term in zip(coefficients, fit.terms_of(objective), strict=True):
        cell = np.asarray(term.cell)
        weight = np.asarray(term.weights_in(jnp.asarray(cells[None], dtype=float))[0], dtype=np.float64)
        yield coefficient, cell, weight / (weight.sum() or 1)


def mean_loss(
    objective: fit.Loss, losses: Sequence[Float[np.ndarray, " items"]], cells: Bool[np.ndarray, " cells"]
) -> float:
    """Mean loss over the items of some cells, summed over the terms that have any; NaN if none has."""
    terms = list(zip(shares(objective, cells), losses, strict=True))
    if not any(share.any() for (_, _, share), _ in terms):
        return float("nan")
    return float(sum(coefficient * share @ loss for (coefficient, _, share), loss in terms))


def standard_error(
    objective: fit.Loss, losses: Sequence[np.ndarray], cells: Bool[np.ndarray, " cells"], groups: Groups
) -> float:
    r"""Standard error of the mean loss over some cells, with groups as what is independent; NaN for fewer than two.

    .. math:: \operatorname{se}^2 = \frac{G}{G-1} \sum_{g=1}^G \Big( \sum_{i \in g} p_i (L_i - \bar L) \Big)^2

    with :math:`p_i` the part of an item in the mean :math:`\bar L`, summed over the terms (linearisation of a ratio of
    sums over clusters, Cochran 1977, section 9A).
    """
    terms = zip(shares(objective, cells), losses, strict=True)
    centred = [loss - share @ loss for (_, _, share), loss in terms]
    parts, _ = parts_of_mean(objective, centred, cells, groups)
    if len(parts) < 2:
        return float("nan")
    return float(np.sqrt(np.sum(parts**2) * len(parts) / (len(parts) - 1)))


def parts_of_mean(
    objective: fit.Loss, losses: Sequence[np.ndarray], cells: Bool[np.ndarray, " cells"], groups: Groups
) -> tuple[Float[np.ndarray, " groups"], Int[np.ndarray, " groups"]]:
    """Part that the items of each group have in the mean loss over some cells, and these groups; they sum to it."""
    numbers, values = [], []
    for (coefficient, cell, share), loss in zip(shares(objective, cells), losses, strict=True):
        numbers.append(groups.number[cell[share > 0]])
        values.append((coefficient * share * loss)[share > 0])
    names, place = np.unique(np.concatenate(numbers), return_inverse=True)
    return np.bincount(place, np.concatenate(values), len(names)), names


def as_doubles(losses: Sequence[jax.Array]) -> list[Float[np.ndarray, " items"]]:
    """Copy losses to the host, in double precision."""
    return [np.asarray(part, dtype=np.float64) for part in losses]


def scores_of(
    objective: fit.Loss, split: Split, groups: Groups, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> dict[str, float]:
    """Compare the losses of items before and after a fit, see :class:`FitResult`; NaN without cells to take them on."""
    scores = {
        f"{name}{suffix}": mean_loss(objective, losses, cells)
        for name, cells in (("training", split.training), ("validation", split.held_out))
        for suffix, losses in (("_convention", before), ("", after))
    }
    gains = gains_of(before, after)
    scores["validation_gain"] = mean_loss(objective, gains, split.held_out)
    scores["validation_gain_se"] = standard_error(objective, gains, split.held_out, groups)
    return scores


def gains_of(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> list[Float[np.ndarray, " items"]]:
    """How much less the loss of each item of each term is after a fit."""
    return [old - new for old, new in zip(before, after, strict=True)]
