"""CellRank's times of kernels without velocities, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_other_kernels.py FILE.h5ad TIME_KEY``
"""

from __future__ import annotations

import json
import sys

import anndata
import cellrank
import cellrank_on_numpy2  # noqa: F401  (before cellrank)
from timing import seconds

cellrank.settings.verbosity = 0


def main(file: str, time_key: str) -> dict[str, object]:
    """Time a pseudotime kernel by both schemes: warm, made anew each time, as results are kept."""
    adata = anndata.read_h5ad(file)

    def kernel(scheme):
        made = cellrank.kernels.PseudotimeKernel(adata, time_key)
        return made.compute_transition_matrix(scheme, show_progress_bar=False, n_jobs=1, backend="threading")

    return {scheme: seconds(lambda s=scheme: kernel(s), repeats=9) for scheme in ("hard", "soft")}


if __name__ == "__main__":
    print(json.dumps({**main(*sys.argv[1:]), "version": cellrank.__version__}))
