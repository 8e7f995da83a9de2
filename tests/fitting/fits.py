"""What holds of every fit of a kernel, and how to compare two."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo import tl

DOUBLE = jax.config.jax_enable_x64
CLOSE = {"rtol": 1e-9 if DOUBLE else 2e-4, "atol": 1e-9 if DOUBLE else 2e-5}
QUICK = {"steps": 20, "progress": False, "prior": np.inf}


def loss_of(kernel, objective, cells=None, seed=0):
    """Loss of a kernel itself, from what is public."""
    mask = jnp.ones(kernel.shape[0]) if cells is None else jnp.asarray(cells, dtype=float)
    return float(
        _loss(objective, kernel.transition_function, kernel.graph, kernel.features, jax.random.key(seed), mask)
    )


@eqx.filter_jit
def _loss(objective, *arguments):
    return objective(*arguments)


def check_scores(result, objective, kernel=None, seed=0):
    """The fit lowers the training loss, and the scores are the losses of the fitted kernel and of the given one."""
    scores = result.scores
    assert scores["training"] < scores["training_convention"]
    for name in ("training", "validation"):
        cells = getattr(result, name)
        if cells.any():
            assert np.isclose(scores[name], loss_of(result.kernel, objective, cells, seed), **CLOSE)
            if kernel is not None:
                expected = loss_of(kernel, objective, cells, seed)
                assert np.isclose(scores[f"{name}_convention"], expected, **CLOSE)
    best = result.history["training"][result.step, result.start]
    assert np.isclose(best, scores["training"], **CLOSE)


def dense(kernel):
    return kernel.transition_matrix.toarray()


def same(a, b):
    """Whether two results have equal numbers in all fields."""
    for field in dataclasses.fields(tl.FitResult):
        if field.name in ("kernel", "state"):
            continue
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, dict):
            assert list(left) == list(right), field.name
            for name in left:
                np.testing.assert_array_equal(left[name], right[name], err_msg=f"{field.name} {name}")
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)
    np.testing.assert_array_equal(dense(a.kernel), dense(b.kernel))
    assert repr(a.kernel) == repr(b.kernel)
