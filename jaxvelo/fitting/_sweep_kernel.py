"""A grid of softmax scales and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo import fit, pl
from jaxvelo.annotated.arguments import check_integer
from jaxvelo.configuration import timed
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import split_cells
from jaxvelo.kernels import KernelExpression


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """Loss of a kernel on a grid.

    Attributes
    ----------
    softmax_scales
        The scales.
    weights
        The weights of the first term.
    losses
        Loss at each scale (rows) and weight (columns), on ``cells``.
    cells
        Mask of the cells that the loss is of.
    kernel
        The kernel at the smallest loss.

    Examples
    --------
    >>> result = jv.tl.sweep_kernel(kernel, jv.objectives.TimeGain(adata, "true_time"), softmax_scales=[1.0, 4.0])
    >>> row, column = np.unravel_index(result.losses.argmin(), result.losses.shape)
    >>> float(result.softmax_scales[row]), float(result.weights[column])
    (4.0, 0.8)
    """

    softmax_scales: np.ndarray
    weights: np.ndarray
    losses: np.ndarray
    cells: np.ndarray
    kernel: KernelExpression

    @property
    def best(self) -> tuple[float, float]:
        """Scale and weight of the smallest loss."""
        i, j = np.unravel_index(np.nanargmin(self.losses), self.losses.shape)
        return float(self.softmax_scales[i]), float(self.weights[j])

    def plot(self, **kwargs: Any) -> Any:
        """Draw the losses as a heat map.

        Parameters
        ----------
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.sweep`.

        Returns
        -------
        What :func:`jaxvelo.pl.sweep` returns.

        Raises
        ------
        TypeError, ValueError
            As :func:`jaxvelo.pl.sweep` does.

        Examples
        --------
        >>> result = jv.tl.sweep_kernel(kernel, jv.objectives.TimeGain(adata, "true_time"), softmax_scales=[1.0, 4.0])
        >>> axes = result.plot(show=False)
        >>> axes.get_xlabel()
        'weight of the first kernel'
        """
        return pl.sweep(self, **kwargs)


def sweep_kernel(
    kernel: KernelExpression,
    objective: fit.Loss,
    softmax_scales: Sequence[float] | None = None,
    weights: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *,
    cells: Any = None,
    seed: int = 0,
) -> SweepResult:
    r"""Evaluate an objective on a grid of softmax scales and weights, in one compiled call.

    The loss is that of :math:`w T_1(\sigma) + (1 - w) T_2`, at each scale :math:`\sigma` and weight :math:`w`. All
    velocity terms get the same scale; the weights are those of the first of the two terms of the kernel.

    Parameters
    ----------
    kernel
        A computed kernel: a velocity kernel, or a sum of two.
    objective
        The loss, from :mod:`jaxvelo.objectives`.
    softmax_scales
        The scales; eight from a quarter to 32 times the automatic one if ``None``.
    weights
        The weights of the first term, between 0 and 1.
    cells
        Cells whose items count: a fraction, indices, names, a mask or a dictionary; all if ``None``.
    seed
        Random seed.

    Returns
    -------
    The losses, and the kernel of the smallest.

    Raises
    ------
    ValueError
        If scales are not positive, weights not between 0 and 1, the kernel is neither a velocity kernel nor a sum of
        two terms, or the loss is not finite anywhere.

    Examples
    --------
    >>> objective = jv.objectives.TimeGain(adata, "true_time")
    >>> result = jv.tl.sweep_kernel(kernel, objective, softmax_scales=[1.0, 4.0], weights=[0.5, 0.8, 1.0])
    >>> result.losses.shape
    (2, 3)
    """
    check_integer("seed", seed, least=0)
    with timed("Evaluating kernel on a grid"):
        has_sum = len(kernel) > 1
        setup = KernelProblem.of(kernel, objective, ["scale", "weights"] if has_sum else ["scale"], int(seed))
        start = setup.start
        if has_sum and (len(start.weight_logits) != 1 or start.weight_logits[0].shape[1] != 1):
            raise ValueError(f"Expected a sum of two weighted kernels to sweep weights, found `{kernel}`.")
        if softmax_scales is None:
            softmax_scales = np.exp(float(start.log_scales[0][0])) * 2.0 ** np.arange(-2, 6)
        scales, shares = np.asarray(softmax_scales, dtype=np.float64), np.asarray(weights, dtype=np.float64)
        if scales.ndim != 1 or not len(scales) or not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ValueError(f"Expected `softmax_scales` to be positive numbers, found `{softmax_scales}`.")
        if shares.ndim != 1 or not len(shares) or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"Expected `weights` between 0 and 1, found `{weights}`.")
        if not has_sum:
            shares = np.ones(1)
        chosen = setup.item_cells() if cells is None else split_cells(setup, cells)[0].held_out
        scale, share = (axis.ravel() for axis in np.meshgrid(scales, shares, indexing="ij"))
        # A weight of exactly zero or one has an infinite logit, which the softmax cannot take.
        tiny = float(np.finfo(np.float32).tiny)
        logits = np.log(np.maximum(share, tiny)) - np.log(np.maximum(1 - share, tiny))
        grid = fit.Parameters(
            tuple(jnp.asarray(np.log(scale)[:, None], dtype=float) for _ in start.log_scales),
            tuple(jnp.asarray(logits[:, None, None], dtype=float) for _ in start.weight_logits),
        )
        losses = np.asarray(fit.sweep(setup.problem, grid, jnp.asarray(chosen, dtype=float)[None]), dtype=np.float64)
        if np.isnan(losses).all():
            why = setup.problem.why_not_finite(jax.tree.map(lambda leaf: leaf[0], grid))
            raise ValueError(
                f"Expected a finite loss at some point of the grid, found none. {why or 'Check the objective.'}"
            )
        best = jax.tree.map(lambda leaf: leaf[int(np.nanargmin(losses))], grid)
        fitted = setup.fitted_kernel(best)
    return SweepResult(scales, shares, losses.reshape(len(scales), len(shares)), chosen, fitted)
