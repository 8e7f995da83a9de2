"""Cells along a time that end in one of two fates, with genes that change in known ways."""

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

GENES = ["rises", "falls", "peaks", "flat", "left/right", "treated"]
FATES = ["left", "right/up"]


def trend_cells(n: int = 240) -> anndata.AnnData:
    """``left/right`` rises towards the second fate alone, ``treated`` in one condition alone."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 1, n))
    end = rng.integers(0, 2, n)
    committed = np.clip(1.5 * time - 0.3, 0, 1)[:, None]
    fates = (1 - committed) * 0.5 + committed * np.eye(2)[end]
    condition = rng.integers(0, 2, n)
    log_mean = np.stack(
        [
            2 * time,
            2 - 2 * time,
            2 * np.exp(-(((time - 0.6) / 0.15) ** 2)),
            0 * time + 1,
            2.5 * time * fates[:, 1],
            1 + condition * time,
        ],
        axis=1,
    )
    size = rng.lognormal(0, 0.2, n)
    counts = rng.poisson(size[:, None] * np.exp(log_mean)).astype(np.float32)
    return anndata.AnnData(
        sp.csr_matrix((log_mean + 0.4 * rng.standard_normal(log_mean.shape)).astype(np.float32)),
        obs=pd.DataFrame(
            {
                "latent_time": time,
                "size": size,
                "condition": pd.Categorical.from_codes(condition, ["control", "drug"]),
                "clusters": pd.Categorical.from_codes((3 * time).astype(int), ["early", "middle", "late"]),
                "term_states_fwd": pd.Categorical.from_codes(np.where(time > 0.95, end, -1), FATES),
            },
            index=[f"cell_{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=GENES),
        layers={"counts": sp.csr_matrix(counts)},
        obsm={"lineages_fwd": fates},
        uns={"term_states_fwd_colors": ["#ff0000", "#0000ff"]},
    )
