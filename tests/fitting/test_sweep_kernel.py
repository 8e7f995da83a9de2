"""Grids of scales and weights, against kernels computed one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.fits import DOUBLE
from tests.snapshot import unchanged

CLOSE = {"rtol": 1e-10, "atol": 1e-10} if jax.config.jax_enable_x64 else {"rtol": 1e-4, "atol": 2e-5}


def loss_by_loop(matrix, fates, cells):
    """Mean negative log-probability of the known fates, by dense linear algebra."""
    terminal, fate, cell = (np.asarray(part) for part in (fates.terminal, fates.fate, fates.cell))
    transient = terminal < 0
    inner = np.eye(transient.sum()) - matrix[np.ix_(transient, transient)]
    absorbed = np.linalg.solve(inner, matrix[transient] @ np.eye(3)[terminal][:, :2])
    number = np.cumsum(transient) - 1
    eps = np.finfo(np.float64 if jax.config.jax_enable_x64 else np.float32).eps
    losses = [-np.log(max(absorbed[number[c], f], eps)) for c, f in zip(cell, fate, strict=True) if cells[c]]
    return np.mean(losses)


@pytest.fixture(scope="module")
def swept(mixed, fates):
    with unchanged(mixed.adata):
        return tl.sweep_kernel(mixed, fates)


def kernel_at(adata, scale, weight):
    velocity = VelocityKernel(adata).compute_transition_matrix(softmax_scale=scale)
    if weight == 1:
        return velocity
    return weight * velocity + (1 - weight) * ConnectivityKernel(adata).compute_transition_matrix()


def test_default_grid(swept, mixed, fates):
    automatic = mixed.kernels[0].params["softmax_scale"]
    np.testing.assert_allclose(swept.softmax_scales, automatic * np.array([0.25, 0.5, 1, 2, 4, 8, 16, 32]), rtol=1e-6)
    np.testing.assert_array_equal(swept.weights, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert swept.losses.shape == (8, 6)
    items = np.zeros(N_CELLS, dtype=bool)
    items[np.asarray(fates.cell)] = True
    np.testing.assert_array_equal(swept.cells, items)


def test_each_point(swept, known, fates):
    # Steep scales make some linear systems too ill-conditioned to compare in single precision.
    for i, scale in enumerate(swept.softmax_scales[:4]):
        for j, weight in enumerate(swept.weights):
            matrix = kernel_at(known, float(scale), float(weight)).transition_matrix.toarray()
            expected = loss_by_loop(matrix, fates, swept.cells)
            assert np.isclose(swept.losses[i, j], expected, rtol=CLOSE["rtol"] * 10), (scale, weight)


def test_best(swept, known):
    i, j = np.unravel_index(np.argmin(swept.losses), swept.losses.shape)
    assert swept.best == (swept.softmax_scales[i], swept.weights[j])
    expected = kernel_at(known, *swept.best).transition_matrix.toarray()
    np.testing.assert_allclose(swept.kernel.transition_matrix.toarray(), expected, atol=1e-6)
    assert f"softmax_scale={round(swept.best[0], 3)}" in repr(swept.kernel)
    assert isinstance(swept.kernel.kernels[0], VelocityKernel)


def test_given_grid_and_cells(mixed, known, gain):
    result = tl.sweep_kernel(mixed, gain, [1, 9], (0.0, 0.25, 1.0), cells={"clusters": "late"})
    late = (known.obs["clusters"] == "late").to_numpy()
    np.testing.assert_array_equal(result.cells, late)
    time = known.obs["pseudotime"].to_numpy()
    gained = np.maximum(time[None] - time[:, None], 0) * (mixed.kernels[1].transition_matrix.toarray() > 0)
    wanted = gained / np.where(gained.any(axis=1), gained.sum(axis=1), 1)[:, None]
    eps = np.finfo(np.float64 if DOUBLE else np.float32).eps
    for i, scale in enumerate((1.0, 9.0)):
        velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=scale).transition_matrix.toarray()
        for j, weight in enumerate((0.0, 0.25, 1.0)):
            matrix = weight * velocity + (1 - weight) * mixed.kernels[1].transition_matrix.toarray()
            losses = np.where(wanted > 0, wanted * np.log(np.where(wanted > 0, wanted / np.maximum(matrix, eps), 1)), 0)
            losses = losses.sum(axis=1)
            assert np.isclose(result.losses[i, j], losses[late].mean(), **CLOSE)
    assert result.plot(show=False).get_xlabel() == "weight of the first kernel"
    half = tl.sweep_kernel(mixed, gain, [1.0], [0.5], cells=0.5)
    assert half.cells.sum() == N_CELLS // 2


def test_single_kernel(velocity, gain):
    result = tl.sweep_kernel(velocity, gain, [0.5, 2.0, 8.0])
    np.testing.assert_array_equal(result.weights, [1.0])
    assert result.losses.shape == (3, 1)
    for scale, loss in zip(result.softmax_scales, result.losses[:, 0], strict=True):
        kernel = VelocityKernel(velocity.adata).compute_transition_matrix(softmax_scale=float(scale))
        expected = gain(kernel.transition_function, kernel.graph, kernel.features, jax.random.key(0))
        assert np.isclose(loss, float(expected), **CLOSE)
    assert result.kernel.params["softmax_scale"] == pytest.approx(result.best[0], rel=1e-6)


def test_two_velocity_terms(velocity, connectivity, known, gain):
    """All get the same scale; a weight of one leaves nothing of the other."""
    other = VelocityKernel(known, vkey="velocity2").compute_transition_matrix()
    result = tl.sweep_kernel(0.5 * velocity + 0.5 * other, gain, [2.0], [1.0, 0.3])
    parts = [
        VelocityKernel(known, vkey=key).compute_transition_matrix(softmax_scale=2.0)
        for key in ("velocity", "velocity2")
    ]
    for weight, loss in zip((1.0, 0.3), result.losses[0], strict=True):
        kernel = parts[0] if weight == 1 else weight * parts[0] + (1 - weight) * parts[1]
        expected = gain(kernel.transition_function, kernel.graph, kernel.features, jax.random.key(0))
        assert np.isclose(loss, float(expected), **CLOSE)


def test_scales_and_weights_of_cells_give_way(velocity, connectivity, known, gain):
    """The grid is of one scale and one weight, whatever the kernel has."""
    share = np.linspace(0.1, 0.9, N_CELLS)
    steep = VelocityKernel(known).compute_transition_matrix(softmax_scale=1 + share)
    uneven = tl.sweep_kernel(share * steep + (1 - share) * connectivity, gain, [3.0], [0.75])
    even = tl.sweep_kernel(0.8 * velocity + 0.2 * connectivity, gain, [3.0], [0.75])
    assert np.isclose(uneven.losses[0, 0], even.losses[0, 0], **CLOSE)
    assert uneven.kernel.kernels[0].params["softmax_scale"] == pytest.approx(3.0, rel=1e-6)
    np.testing.assert_allclose(uneven.kernel.weights, (0.75, 0.25), rtol=1e-6)


def test_velocity_second(velocity, connectivity, gain):
    """Weights are those of the first term, whichever it is."""
    first = tl.sweep_kernel(0.8 * velocity + 0.2 * connectivity, gain, [3.0], [0.75])
    second = tl.sweep_kernel(0.2 * connectivity + 0.8 * velocity, gain, [3.0], [0.25])
    assert np.isclose(first.losses[0, 0], second.losses[0, 0], **CLOSE)
    np.testing.assert_allclose(second.kernel.weights, (0.25, 0.75), rtol=1e-6)


BAD = {
    "negative scale": ({"softmax_scales": [1, -2]}, ValueError, "`softmax_scales` to be positive numbers"),
    "infinite scale": ({"softmax_scales": [np.inf]}, ValueError, "`softmax_scales` to be positive numbers"),
    "no scale": ({"softmax_scales": []}, ValueError, "`softmax_scales` to be positive numbers"),
    "one scale": ({"softmax_scales": 3.0}, ValueError, "`softmax_scales` to be positive numbers"),
    "weight beyond one": ({"weights": [0.5, 1.2]}, ValueError, "`weights` between 0 and 1"),
    "no weight": ({"weights": []}, ValueError, "`weights` between 0 and 1"),
    "missing weight": ({"weights": [np.nan]}, ValueError, "`weights` between 0 and 1"),
    "one cell": ({"cells": [3]}, ValueError, "at least two validation cells"),
    "seed": ({"seed": -1}, ValueError, "`seed` to be an integer of at least 0"),
    "no objective": ({"objective": 3}, TypeError, "Expected an objective"),
    "no kernel": ({"kernel": "kernel"}, TypeError, "Expected a kernel, found `str`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name, mixed, gain):
    arguments, error, message = BAD[name]
    arguments = {"kernel": mixed, "objective": gain, **arguments}
    with unchanged(mixed.adata), pytest.raises(error, match=message):
        tl.sweep_kernel(arguments.pop("kernel"), arguments.pop("objective"), **arguments)


def test_bad_kernels(velocity, connectivity, gain):
    with pytest.raises(ValueError, match="sum of two weighted kernels"):
        tl.sweep_kernel(0.5 * velocity + 0.3 * connectivity + 0.2 * (velocity * connectivity), gain)
    for lone in (0.5 * velocity, velocity * connectivity):
        with pytest.raises(ValueError, match="sum of at least two weighted kernels"):
            tl.sweep_kernel(lone, gain)
    with pytest.raises(ValueError, match="a `VelocityKernel` to fit 'scale'"):
        tl.sweep_kernel(connectivity, gain)


def test_nowhere_finite(mixed):
    objective = objectives.FunctionOf(mixed.adata, lambda matrix: jnp.full(N_CELLS, jnp.nan))
    with pytest.raises(ValueError, match="Expected a finite loss at some point of the grid"):
        tl.sweep_kernel(mixed, objective, [1.0], [0.5])
