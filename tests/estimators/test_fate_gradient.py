"""Derivatives of fates by all that a kernel has, and the genes that the fates follow from."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.estimators._fate_gradient import fate_gradient
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.markov import absorption_probabilities
from jaxvelo.transitions import Features
from tests.bent_line import N_CELLS, N_GENES, make_cells
from tests.finite_differences import check_gradient

NAMES = ("begin", "end")
TERMINAL = np.where(np.arange(N_CELLS) < 4, 0, np.where(np.arange(N_CELLS) >= N_CELLS - 4, 1, -1))
FACTORS = np.random.default_rng(0).normal(size=(N_CELLS, 2))


@pytest.fixture(scope="module")
def velocity():
    return VelocityKernel(make_cells()).compute_transition_matrix(gene_weights=np.linspace(0.5, 1.5, N_GENES))


@pytest.fixture(scope="module")
def kernel(velocity):
    return 0.8 * velocity + 0.2 * ConnectivityKernel(velocity.adata).compute_transition_matrix()


def weighted(function_and_v, graph, features, factors):
    transition_function, v = function_and_v
    (name,) = features
    data = {name: Features(features[name].x, v, features[name].n_genes)}
    found = absorption_probabilities(transition_function(graph, data), jnp.asarray(TERMINAL), 2)
    return jnp.sum(found.probabilities * factors)


def test_by_scale_weights_gene_weights_and_velocities(kernel):
    (features,) = kernel.features.values()
    factors = jnp.asarray(FACTORS, features.v.dtype)
    check_gradient(
        weighted, (kernel.transition_function, features.v), arguments=(kernel.graph, kernel.features, factors)
    )


def test_tables(kernel):
    found = fate_gradient(kernel, TERMINAL, NAMES, of_cells=True)
    assert list(found.score.columns) == list(NAMES)
    assert list(found.score.index) == list(kernel.adata.var_names) == list(found.effect.index)
    assert found.of_cells.shape == (2, N_CELLS, N_GENES)
    # Row by row the equations hold: fates sum to one, so that their derivatives cancel.
    largest = np.abs(found.of_cells).max()
    np.testing.assert_allclose(found.of_cells.sum(axis=0), 0, atol=1e-5 * largest)
    np.testing.assert_allclose(found.score["begin"], -found.score["end"], atol=1e-5)
    assert found.score.abs().to_numpy().max() <= 1 + 1e-6
    v = np.asarray(kernel.adata.layers["velocity"], float)
    gradient = np.asarray(found.of_cells[1], float)
    np.testing.assert_allclose(found.effect["end"], (gradient * v).sum(axis=0), rtol=1e-4, atol=1e-6)
    matters = np.abs(gradient).max(axis=1) > 0
    unit = gradient[matters] / np.linalg.norm(gradient[matters], axis=1, keepdims=True)
    np.testing.assert_allclose(found.score["end"], unit.mean(axis=0) / np.sqrt((unit**2).mean(axis=0)), rtol=1e-4)
    assert fate_gradient(kernel, TERMINAL, NAMES).of_cells is None


def test_the_mean_over_chosen_cells(kernel):
    cells = [20, 30]
    found = fate_gradient(kernel, TERMINAL, NAMES, cells=cells, of_cells=True)
    (features,) = kernel.features.values()
    factors = np.zeros((N_CELLS, 2))
    factors[cells, 1] = 0.5

    @eqx.filter_jit
    def derivative(v, function, graph, data, factors):
        return jax.grad(lambda v: weighted((function, v), graph, data, factors))(v)

    arguments = kernel.transition_function, kernel.graph, kernel.features, jnp.asarray(factors, features.v.dtype)
    expected = np.asarray(derivative(features.v, *arguments))[:N_CELLS, :N_GENES]
    np.testing.assert_allclose(found.of_cells[1], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    mask = fate_gradient(kernel, TERMINAL, NAMES, cells=np.isin(np.arange(N_CELLS), cells))
    np.testing.assert_allclose(mask.effect, found.effect, rtol=0, atol=1e-5 * np.abs(found.effect).to_numpy().max())


def test_the_genes_that_lead_along_the_line(kernel):
    """Of genes that rise along the line, more velocity leads to its end."""
    x = kernel.adata.layers["Ms"]
    rise = np.corrcoef(np.arange(N_CELLS), x.T)[0, 1:]
    score = fate_gradient(kernel, TERMINAL, NAMES).score["end"].to_numpy()
    assert np.corrcoef(rise, score)[0, 1] > 0.5


@pytest.mark.any_precision
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel": "T_fwd"}, TypeError, "to be a kernel"),
        ({"kernel": "connectivities"}, TypeError, "Expected a velocity kernel"),
        ({"kernel": "other genes"}, ValueError, "one set of velocities"),
        ({"terminal": TERMINAL[:-1]}, ValueError, "one integer for each of the 60 cells"),
        ({"terminal": np.where(TERMINAL == 1, 2, TERMINAL)}, ValueError, "classes 0 to 1"),
        ({"terminal": np.arange(N_CELLS) % 2}, ValueError, "not terminal, found none"),
        ({"names": ("end", "end")}, ValueError, "one name for each class"),
        ({"cells": []}, ValueError, "No cells indices"),
        ({"cells": np.zeros(N_CELLS, bool)}, ValueError, "No cells indices"),
        ({"cells": TERMINAL >= 0}, ValueError, "not terminal"),
        ({"cells": ["no_cell"]}, KeyError, "no_cell"),
        ({"cells": [N_CELLS]}, IndexError, str(N_CELLS)),
    ],
)
def test_what_is_not_as_expected(velocity, kernel, change, error, message):
    other = VelocityKernel(velocity.adata, gene_subset="chosen")
    kernels = {
        "connectivities": ConnectivityKernel(velocity.adata).compute_transition_matrix(),
        "other genes": velocity + other.compute_transition_matrix(),
    }
    arguments = {"kernel": kernel, "terminal": TERMINAL, "names": NAMES} | change
    if isinstance(arguments["kernel"], str):
        arguments["kernel"] = kernels.get(arguments["kernel"], arguments["kernel"])
    with pytest.raises(error, match=message):
        fate_gradient(**arguments)
