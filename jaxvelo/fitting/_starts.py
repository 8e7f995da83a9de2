"""Where a fit starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.fitting._kernel_problem import KernelProblem

SMALL_WEIGHT = 0.15
"""Share of a term in a sum below which a fit starts from equal weights too."""


def starting_points(problem: KernelProblem, starts: Any) -> fit.Parameters:
    """Start parameters; a leading axis counts the starts. On the host: each small step would be compiled."""
    first: fit.Parameters = jax.tree.map(np.asarray, problem.start)
    if starts is None:
        # From a very small weight, the way down may end in a local minimum.
        starts = 2 if any(share < SMALL_WEIGHT for share in problem.shares()) and not first.log_gene_weights else 1
    if isinstance(starts, (int, np.integer)) and not isinstance(starts, bool):
        check_integer("starts", starts, least=1)
        rng = np.random.default_rng(problem.seed + 2)
        equal: Any = tuple(map(np.zeros_like, first.weight_logits))
        points = [first, fit.Parameters(first.log_scales, equal, first.log_gene_weights, first.numbers)][: int(starts)]
        for _ in range(int(starts) - len(points)):
            scales, weights = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), (first.log_scales, equal))
            points.append(fit.Parameters(scales, weights, first.log_gene_weights, first.numbers))
    elif isinstance(starts, Sequence) and not isinstance(starts, str) and len(starts):
        points = [_start_at(first, point) for point in starts]
    else:
        raise ValueError(f"Expected `starts` to be a number or a list of dictionaries, found `{starts!r}`.")
    return jax.tree.map(lambda own, *leaves: jax.device_put(np.stack(leaves).astype(own.dtype)), first, *points)


def _start_at(first: fit.Parameters, point: Mapping[str, Any]) -> fit.Parameters:
    if not isinstance(point, Mapping):
        raise ValueError(f"Expected each of `starts` to be a dictionary, found `{point!r}`.")
    unknown = set(point) - {"softmax_scale", "weights"}
    if unknown:
        raise ValueError(f"Expected a start with 'softmax_scale' and 'weights', found {sorted(unknown)}.")

    def at_scale(leaf):
        value = point["softmax_scale"]
        if not is_number(value) or not (np.isfinite(value) and value > 0):
            raise ValueError(f"Expected a positive `softmax_scale` to start from, found `{value}`.")
        return leaf + (np.log(value) - leaf[0])

    def at_weights(leaf):
        weights = np.atleast_1d(np.asarray(point["weights"], dtype=np.float64))
        if weights.shape == (1,):
            weights = np.array([weights[0], 1 - weights[0]])
        if weights.shape != (leaf.shape[1] + 1,) or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"Expected {leaf.shape[1] + 1} positive weights to start from, found `{point['weights']}`."
            )
        return leaf + (np.log(weights[:-1] / weights[-1]) - leaf[0])[None]

    return fit.Parameters(
        tuple(map(at_scale, first.log_scales)) if "softmax_scale" in point else first.log_scales,
        tuple(map(at_weights, first.weight_logits)) if "weights" in point else first.weight_logits,
        first.log_gene_weights,
        first.numbers,
    )
