"""Times of jaxvelo from a transition matrix to fates, as JSON on standard output.

Usage: ``python -m benchmarks.our_estimators FILE.h5ad MATRICES.npz [cold|warm|tsi]``
"""

from __future__ import annotations

import json
import sys
import time

START = time.perf_counter()

import anndata  # noqa: E402

import jaxvelo as jv  # noqa: E402
from benchmarks.estimator_steps import Steps, transition_matrix  # noqa: E402
from benchmarks.timing import seconds  # noqa: E402


def main(file: str, matrices: str, what: str) -> dict[str, object]:
    """Time one group of steps."""
    jv.settings.verbosity = "error"
    adata = anndata.read_h5ad(file)
    kernel = jv.kernels.PrecomputedKernel(transition_matrix(matrices), adata=adata)
    steps = Steps(jv.estimators.GPCCA(kernel), {}, seconds)
    if what == "cold":
        steps.to_fates()
        return {"in_process": time.perf_counter() - START}
    if what == "tsi":
        steps.schur()
        return {"tsi": steps.tsi(20)}
    return steps.measure(repeats=3, warm_up=1)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
