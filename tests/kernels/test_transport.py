"""Couplings of our own by optimal transport."""

import numpy as np
import pytest

from jaxvelo.kernels import RealTimeKernel, _transport

pytestmark = pytest.mark.any_precision


def plain_sinkhorn(x, y, a, epsilon, tau_a, steps=3000):
    cost = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    cost /= cost.mean()
    b = np.full(len(y), 1 / len(y))
    kernel, u, v = np.exp(-cost / epsilon), np.ones(len(x)), np.ones(len(y))
    for _ in range(steps):
        u = (a / (kernel @ v)) ** tau_a
        v = b / (kernel.T @ u)
    return u[:, None] * kernel * v[None]


def test_transport(cells, monkeypatch, logged):
    pytest.importorskip("ott")
    monkeypatch.setattr(_transport, "_CONVERGED", 1e-6)
    monkeypatch.setattr(_transport, "EPSILONS", (0.1, 0.2))
    monkeypatch.setattr(_transport, "SOURCE_TAUS", (1.0,))
    cells = cells[cells.obs["day"].astype(float) < 2].copy()
    rng = np.random.default_rng(0)
    cells.obs["growth"] = rng.uniform(0.5, 2, cells.n_obs)
    kernel = RealTimeKernel(cells, "day").compute_couplings(epsilon=0.2, tau_a=0.9, growth="growth")
    ((pair, coupling),) = kernel.couplings.items()
    assert pair == (0, 1)
    x = cells.obsm["X_pca"]
    mass = cells.obs["growth"].to_numpy()[:20]
    wanted = plain_sinkhorn(x[:20], x[20:], mass / mass.sum(), 0.2, 0.9)
    np.testing.assert_allclose(coupling, wanted, rtol=0, atol=2e-4 * wanted.max())
    # Clones tell how far cells go: here, to the one that is as far along the line.
    cells.obs["clone"] = [f"{i % 20}" for i in range(40)]
    chosen = RealTimeKernel(cells, "day").compute_couplings(clones="clone")
    assert "Using `epsilon=" in logged()
    scores = []
    for epsilon in (0.1, 0.2):
        p = plain_sinkhorn(x[:20], x[20:], np.full(20, 0.05), epsilon, 1.0)
        scores.append(np.log(np.diag(p) / p.sum(axis=1)).mean())
    best = plain_sinkhorn(x[:20], x[20:], np.full(20, 0.05), (0.1, 0.2)[int(np.argmax(scores))], 1.0)
    np.testing.assert_allclose(chosen.couplings[0, 1], best, rtol=0, atol=2e-4 * best.max())
    matrix = chosen.compute_transition_matrix("auto", "diagonal").transition_matrix
    assert matrix[:20, 20:].nnz > 20


def test_another_epsilon_compiles_nothing(cells, compilations):
    pytest.importorskip("ott")
    cells = cells[cells.obs["day"].astype(float) < 2].copy()
    kernel = RealTimeKernel(cells, "day").compute_couplings(epsilon=0.3)
    compilations.clear()
    kernel.compute_couplings(epsilon=0.4)
    assert compilations == []


def test_what_is_refused(cells, monkeypatch):
    pytest.importorskip("ott")
    kernel = RealTimeKernel(cells, "day")
    cells.obs["growth"] = np.where(np.arange(60) < 3, 0, 1.0)
    cells.obs["alone"] = [str(i) for i in range(60)]
    cells.obsm["X_missing"] = np.full((60, 2), np.nan)
    for arguments, error, message in (
        ({"epsilon": 0}, ValueError, "`epsilon` to be positive, found `0`"),
        ({"tau_a": 2}, ValueError, "at most 1"),
        ({"use_rep": "X_scvi"}, KeyError, "X_scvi"),
        ({"growth": "growth"}, ValueError, "positive and finite growth"),
        ({"clones": "X_clone"}, KeyError, "X_clone"),
        ({"clones": "X_missing"}, ValueError, "X_missing.*found 120 that are not"),
        ({"clones": "alone"}, ValueError, "found none: they cannot tell"),
    ):
        with pytest.raises(error, match=message):
            kernel.compute_couplings(**arguments)
    monkeypatch.setattr(_transport, "MOST_PAIRS", 100)
    with pytest.raises(ValueError, match=r"at most 1e\+02 pairs.*sparse ones"):
        kernel.compute_transition_matrix()
