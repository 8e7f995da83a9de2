"""The README's code runs as it stands there."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxvelo as jv

FOR_CELLRANK_USERS, FOR_JAX_USERS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), re.DOTALL
)


def test_for_cellrank_users(monkeypatch):
    """On simulated cells, which need no download; pictures are drawn, not shown."""
    pytest.importorskip("scanpy", reason='the tutorial needs `pip install "jaxvelo[tutorial]"`')
    import matplotlib.pyplot as plt

    def simulated():
        adata = jv.datasets.simulate(300, 60)
        adata.obs["clusters"] = adata.obs["clusters"].cat.rename_categories({"Progenitor": "Ngn3 low EP"})
        return adata

    monkeypatch.setattr(jv.datasets, "pancreas", simulated)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names: dict = {}
    exec(FOR_CELLRANK_USERS, names)
    kernel = names["kernel"]
    assert str(kernel) == "(0.8 * VelocityKernel[n=300] + 0.2 * ConnectivityKernel[n=300])"
    assert kernel.adata.obsm["T_fwd_umap"].shape == (300, 2)
    assert len(shown) == 2
    plt.close("all")


def test_for_jax_users():
    names: dict = {}
    exec(FOR_JAX_USERS, names)
    gradient = names["gradient"]
    assert jnp.isfinite(names["value"])
    for part in (gradient.weights, gradient.children[0].log_scale):
        assert np.isfinite(part).all()
        assert np.any(np.asarray(part) != 0)
