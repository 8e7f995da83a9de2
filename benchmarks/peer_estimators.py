"""CellRank's times from a transition matrix to fates, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_estimators.py FILE.h5ad MATRICES.npz [cold|warm|tsi]``
"""

from __future__ import annotations

import json
import sys
import time
import warnings

START = time.perf_counter()

import cellrank_on_numpy2  # noqa: E402, F401, I001  (before cellrank)
import anndata  # noqa: E402
import cellrank  # noqa: E402
from estimator_steps import Steps, transition_matrix  # noqa: E402
from timing import seconds  # noqa: E402

cellrank.settings.verbosity = 0
warnings.filterwarnings("ignore")


def main(file: str, matrices: str, what: str) -> dict[str, object]:
    """Time one group of steps."""
    adata = anndata.read_h5ad(file)
    kernel = cellrank.kernels.PrecomputedKernel(transition_matrix(matrices), adata=adata)
    steps = Steps(cellrank.estimators.GPCCA(kernel), {"show_progress_bar": False}, seconds)
    if what == "cold":
        steps.to_fates()
        return {"in_process": time.perf_counter() - START}
    if what == "tsi":
        steps.schur()
        return {"tsi": steps.tsi(9)}
    # Without PETSc, the variances of the times were not there after six minutes.
    return steps.measure(repeats=1, leave_out=("times",))


if __name__ == "__main__":
    print(json.dumps({**main(*sys.argv[1:]), "version": cellrank.__version__}))
