"""How well kernels do on some cells: losses of items, their means and standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxvelo import fit
from jaxvelo.fitting._split import Split
from jaxvelo.graph._precision import full_precision


@full_precision
@eqx.filter_jit
def item_losses(problem: fit.Problem, parameters: fit.Parameters):
    """Loss of each item, for each term of the objective."""
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
    """Mean loss over the items of some cells, summed over the terms; NaN if there is no cell."""
    if not cells.any():
        return float("nan")
    terms = zip(shares(objective, cells), losses, strict=True)
    return float(sum(coefficient * share @ loss for (coefficient, _, share), loss in terms))


def standard_error(objective: fit.Loss, losses: Sequence[np.ndarray], cells: np.ndarray) -> float:
    """Standard error of the mean loss over cells, which are taken to be independent."""
    if not cells.any():
        return float("nan")
    deviation = np.zeros(len(cells))
    for (coefficient, cell, share), loss in zip(shares(objective, cells), losses, strict=True):
        np.add.at(deviation, cell, coefficient * share * (loss - share @ loss))
    n_cells = int(cells.sum())
    return float(np.sqrt(np.sum(deviation**2) * n_cells / max(n_cells - 1, 1)))


def as_doubles(losses: Sequence[jax.Array]) -> list[Float[np.ndarray, " items"]]:
    """Copy losses to the host, in double precision."""
    return [np.asarray(part, dtype=np.float64) for part in losses]


def scores_of(
    objective: fit.Loss, split: Split, before: Sequence[jax.Array], after: Sequence[jax.Array]
) -> dict[str, float]:
    """Compare the losses of items before and after a fit, see :class:`FitResult`; NaN without cells to take them on."""
    old, new = as_doubles(before), as_doubles(after)
    scores = {
        f"{name}{suffix}": mean_loss(objective, losses, cells)
        for name, cells in (("training", split.training), ("validation", split.held_out))
        for suffix, losses in (("_convention", old), ("", new))
    }
    gains = [before - after for before, after in zip(old, new, strict=True)]
    scores["validation_gain"] = mean_loss(objective, gains, split.held_out)
    scores["validation_gain_se"] = standard_error(objective, gains, split.held_out)
    return scores
