"""The one check of gradients: against central differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@eqx.filter_jit
def value_and_gradient(function, argument, arguments=()):
    """Value and gradient by the floating-point leaves of ``argument``; compiled once for each function and shapes."""
    return eqx.filter_value_and_grad(lambda a: function(a, *arguments))(argument)


def check_gradient(function, argument, rtol=1e-6, arguments=(), leaves=None, step=1e-4, directions=2, seed=0):
    """Compare ``jax.grad(function)`` at ``argument`` with central differences of fourth order, in float64.

    Each floating-point leaf of ``argument`` (an array or a pytree) is moved alone, along ``directions`` random
    directions, so that a leaf with small gradients does not hide behind one with large ones. ``step`` is relative to
    the largest entry of the leaf. Differences say nothing in single precision: there, the test is skipped.
    ``arguments`` are further arguments of ``function``; passed so, and not closed over, they do not compile it anew.
    ``leaves`` are the positions of the leaves to move, all if ``None``: leave out those in which the function is not
    smooth.

    Returns the gradient.
    """
    if not jax.config.jax_enable_x64:
        pytest.skip("finite differences need float64")
    parameters, static = eqx.partition(argument, eqx.is_inexact_array_like)
    start, structure = jax.tree.flatten(parameters)
    start = [np.asarray(leaf, dtype=np.float64) for leaf in start]
    assert start, "nothing to differentiate"

    def evaluate(moved):
        moved = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in moved])
        return value_and_gradient(function, eqx.combine(moved, static), arguments)

    value, gradient = evaluate(start)
    slopes = [np.asarray(slope) for slope in jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))]
    assert len(slopes) == len(start)
    assert all(np.all(np.isfinite(slope)) for slope in slopes), "the gradient is not finite"
    rng = np.random.default_rng(seed)
    for i in range(len(start)) if leaves is None else leaves:
        leaf, slope = start[i], slopes[i]
        h = step * max(np.max(np.abs(leaf)), 1e-3)
        for _ in range(directions):
            direction = rng.normal(size=leaf.shape)
            direction /= np.linalg.norm(direction)
            values = [
                float(evaluate([*start[:i], leaf + steps * h * direction, *start[i + 1 :]])[0])
                for steps in (-2, -1, 1, 2)
            ]
            expected = np.dot(values, [1, -8, 8, -1]) / (12 * h)
            found = float(np.sum(slope * direction))
            scale = abs(expected) + np.linalg.norm(slope) / np.sqrt(leaf.size)
            rounding = 10 * np.finfo(float).eps * abs(float(value)) / h
            assert abs(found - expected) <= rtol * scale + rounding, (
                f"leaf {i} of shape {leaf.shape}: gradient {found!r}, finite differences {expected!r}"
            )
    return gradient
