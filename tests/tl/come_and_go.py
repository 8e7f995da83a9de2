"""Cells along one trajectory, with genes that come and go."""

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo import datasets
from tests.trajectory import with_neighbors

N_CELLS, N_GENES = 150, 12


def moments(seed=0):
    """Genes that come and go along one trajectory, with a little noise; the second half shows no dynamics."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.random(N_CELLS)) * 10
    half = N_GENES // 2
    gamma, switch, on = rng.uniform(0.3, 1.5, half), rng.uniform(2, 5, half), rng.uniform(0, 2, half)
    shape = (N_CELLS, half)
    rates = [np.broadcast_to(x, shape) for x in (np.full(half, 10.0), np.ones(half), gamma, on, on + switch)]
    u, s = datasets.splicing_state(np.broadcast_to(time[:, None], shape), *rates)
    flat = rng.gamma(50, 0.02, (2, N_CELLS, N_GENES - half))
    u, s = np.c_[u, flat[0]], np.c_[s, flat[1]]
    u, s = (x * rng.gamma(400, 1 / 400, x.shape) for x in (u, s))
    names = [f"gene_{i}" for i in range(N_GENES)]
    layers = {"Ms": s.astype(np.float32), "Mu": u.astype(np.float32)}
    adata = AnnData(s, obs=pd.DataFrame({"time": time}, index=[f"cell_{i}" for i in range(N_CELLS)]), layers=layers)
    adata.var_names = names
    adata.var["chosen"] = np.arange(N_GENES) < half
    adata.uns["true_gamma"] = gamma
    return with_neighbors(adata, time[:, None])
