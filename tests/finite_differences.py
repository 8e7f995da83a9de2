"""The one check of gradients: against central differences."""

import equinox as eqx
import jax
import numpy as np
import pytest


def check_gradient(function, argument, rtol=1e-6, step=1e-4, directions=2, seed=0):
    """Compare ``jax.grad(function)`` at ``argument`` with central differences of fourth order, in float64.

    Each floating-point leaf of ``argument`` (an array or a pytree) is moved alone, along ``directions`` random
    directions, so that a leaf with small gradients does not hide behind one with large ones. ``step`` is relative to
    the largest entry of the leaf. Differences say nothing in single precision: there, the test is skipped.

    Returns the gradient.
    """
    if not jax.config.jax_enable_x64:
        pytest.skip("finite differences need float64")
    parameters, static = eqx.partition(argument, eqx.is_inexact_array_like)
    leaves, structure = jax.tree.flatten(parameters)
    leaves = [np.asarray(leaf, dtype=np.float64) for leaf in leaves]
    assert leaves, "nothing to differentiate"

    @jax.jit
    def value_and_gradient(leaves):
        combine = lambda leaves: eqx.combine(jax.tree.unflatten(structure, leaves), static)  # noqa: E731
        return jax.value_and_grad(lambda leaves: function(combine(leaves)))(leaves)

    value, gradient = value_and_gradient(leaves)
    rng = np.random.default_rng(seed)
    for i, leaf in enumerate(leaves):
        slope = np.asarray(gradient[i])
        assert np.all(np.isfinite(slope)), f"gradient of leaf {i} is not finite"
        h = step * max(np.max(np.abs(leaf)), 1e-3)
        for _ in range(directions):
            direction = rng.normal(size=leaf.shape)
            direction /= np.linalg.norm(direction)

            def along(steps, i=i, leaf=leaf, h=h, direction=direction):
                moved = [*leaves[:i], leaf + steps * h * direction, *leaves[i + 1 :]]
                return float(value_and_gradient(moved)[0])

            expected = (8 * (along(1) - along(-1)) - (along(2) - along(-2))) / (12 * h)
            found = float(np.sum(slope * direction))
            scale = abs(expected) + np.linalg.norm(slope) / np.sqrt(leaf.size)
            rounding = 10 * np.finfo(float).eps * abs(float(value)) / h
            assert abs(found - expected) <= rtol * scale + rounding, (
                f"leaf {i} of shape {leaf.shape}: gradient {found!r}, finite differences {expected!r}"
            )
    return jax.tree.unflatten(structure, gradient)
