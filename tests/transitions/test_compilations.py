"""What users feel: how often something is compiled."""

import logging

import jax
import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.kernels import VelocityKernel


class _Counter(logging.Handler):
    def __init__(self):
        super().__init__()
        self.programs = []

    def emit(self, record):
        if record.getMessage().startswith("Finished XLA compilation"):
            self.programs.append(record.getMessage())


@pytest.fixture
def compilations():
    """List of the programs that are compiled."""
    counter = _Counter()
    logger = logging.getLogger("jax._src.dispatch")
    others = logging.getLogger("jax")
    logger.addHandler(counter)
    propagate = others.propagate
    others.propagate = False
    try:
        with jax.log_compiles():
            yield counter.programs
    finally:
        logger.removeHandler(counter)
        others.propagate = propagate


def cells(n_cells: int, n_genes: int, seed: int) -> AnnData:
    """Random cells with the degrees of a symmetric neighbour graph."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(size=(n_cells, 2))
    distance = ((positions[:, None] - positions[None]) ** 2).sum(axis=2)
    near = np.argsort(distance, axis=1)[:, 1:16]
    graph = sp.csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, 15)), shape=(n_cells, n_cells))
    layers = {"Ms": rng.random((n_cells, n_genes)), "velocity": rng.normal(size=(n_cells, n_genes))}
    return AnnData(np.zeros((n_cells, n_genes)), layers=layers, obsp={"connectivities": graph.maximum(graph.T)})


def part(adata: AnnData, n_cells: int, n_genes: int) -> AnnData:
    return adata[:n_cells, :n_genes].copy()


def test_a_second_data_set_compiles_nothing_or_one_program(compilations):
    data = cells(640, 50, 0)
    first = VelocityKernel(data).compute_transition_matrix()
    assert len(compilations) >= 1
    compilations.clear()

    similar = VelocityKernel(part(data, 632, 49)).compute_transition_matrix()
    assert similar.shape == (632, 632)
    assert [c.shape for c in similar.graph.columns] == [c.shape for c in first.graph.columns]
    assert compilations == []

    other = VelocityKernel(cells(400, 70, 2))
    known = {c.shape for c in first.graph.columns}
    new_shapes = {c.shape for c in other.graph.columns} - known
    other.compute_transition_matrix()
    assert 1 <= len(compilations) <= len(new_shapes)

    compilations.clear()
    other.compute_transition_matrix()
    first.compute_transition_matrix()
    assert compilations == []
