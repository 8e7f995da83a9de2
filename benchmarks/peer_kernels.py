"""CellRank's times, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_kernels.py FILE.h5ad [warm|stochastic|monte_carlo|cold]``
"""

from __future__ import annotations

import json
import sys
import time

START = time.perf_counter()

import cellrank_on_numpy2  # noqa: E402, F401, I001  (before cellrank)
import anndata  # noqa: E402
import cellrank  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
from cellrank.kernels.utils import RandomWalk, TmatProjection  # noqa: E402
from timing import first_cells, seconds  # noqa: E402

matplotlib.use("Agg")
cellrank.settings.verbosity = 0
QUIET = {"show_progress_bar": False}


def main(file: str, what: str) -> dict[str, object]:
    """Time one group of steps."""
    adata = anndata.read_h5ad(file)

    def kernel(data=adata, **kwargs):
        return cellrank.kernels.VelocityKernel(data).compute_transition_matrix(**QUIET, **kwargs)

    if what == "cold":
        kernel()
        return {"in_process": time.perf_counter() - START}
    if what == "stochastic":
        part = first_cells(adata, 300)
        return {"stochastic_300": seconds(lambda: kernel(part, model="stochastic"), repeats=1, warm_up=1)}
    if what == "monte_carlo":
        kernel(first_cells(adata, 300), model="monte_carlo", n_samples=10)
        return {"monte_carlo": seconds(lambda: kernel(model="monte_carlo", n_samples=1000), repeats=1, warm_up=0)}
    velocity = kernel()
    connectivity = cellrank.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    combined = 0.8 * velocity + 0.2 * connectivity
    walk = RandomWalk(adata, combined.transition_matrix, start_ixs=np.arange(300).tolist())
    projection = TmatProjection(combined, basis="umap")
    return {
        "deterministic": seconds(kernel, repeats=5),
        "connectivity": seconds(
            lambda: cellrank.kernels.ConnectivityKernel(adata).compute_transition_matrix(), repeats=5
        ),
        "walks_100": seconds(lambda: walk.simulate_many(100, max_iter=200, seed=0, **QUIET), repeats=3),
        "projection": seconds(lambda: projection.project(recompute=True), repeats=3),
    }


if __name__ == "__main__":
    print(json.dumps({**main(*sys.argv[1:]), "version": cellrank.__version__}))
