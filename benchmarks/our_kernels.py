"""Times of jaxvelo, as JSON on standard output.

Usage: ``python -m benchmarks.our_kernels FILE.h5ad [warm|cold]``
"""

from __future__ import annotations

import json
import sys
import time

START = time.perf_counter()

import anndata  # noqa: E402

import jaxvelo as jv  # noqa: E402


def cold(file: str) -> dict[str, object]:
    """Import, read, compute once."""
    jv.settings.verbosity = "error"
    jv.kernels.VelocityKernel(anndata.read_h5ad(file)).compute_transition_matrix()
    return {"in_process": time.perf_counter() - START}


def warm(file: str) -> dict[str, object]:
    """Time every step, and the pure functions against the machine."""
    from benchmarks import pure_kernels
    from benchmarks.timing import first_cells, seconds

    jv.settings.verbosity = "error"
    adata = anndata.read_h5ad(file)
    part = first_cells(adata, 300)

    def kernel(data=adata, **kwargs):
        return jv.kernels.VelocityKernel(data).compute_transition_matrix(**kwargs).transition_matrix

    velocity = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    combined = (0.8 * velocity + 0.2 * connectivity).compute_transition_matrix()
    start = list(range(300))
    return {
        "deterministic": seconds(kernel, repeats=21, warm_up=3),
        "connectivity": seconds(
            lambda: jv.kernels.ConnectivityKernel(adata).compute_transition_matrix(), repeats=11, warm_up=2
        ),
        "stochastic_300": seconds(lambda: kernel(part, model="stochastic"), repeats=7, warm_up=2),
        "stochastic": seconds(lambda: kernel(model="stochastic"), repeats=5),
        "monte_carlo": seconds(lambda: kernel(model="monte_carlo", n_samples=1000, seed=0), repeats=3),
        "walks_100": seconds(lambda: combined.random_walks(100, 200, 0, start_ixs=start), repeats=11, warm_up=2),
        "walks_10000": seconds(lambda: combined.random_walks(10_000, 200, 0, start_ixs=start), repeats=3),
        "projection": seconds(lambda: combined.add_projection("umap", recompute=True), repeats=11, warm_up=2),
        **pure_kernels.measure(velocity, connectivity),
    }


if __name__ == "__main__":
    file, what = sys.argv[1:]
    print(json.dumps(cold(file) if what == "cold" else warm(file)))
