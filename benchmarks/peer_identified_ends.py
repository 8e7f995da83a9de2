"""CellRank's identification of known ends by each kernel, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_identified_ends.py FILE.h5ad``
"""

from __future__ import annotations

import json
import sys

import cellrank
import cellrank_on_numpy2  # noqa: F401  (before what it mends is called)
from identified_ends import identified

cellrank.settings.verbosity = 0

if __name__ == "__main__":
    of_kernels = identified(cellrank, sys.argv[1], {"show_progress_bar": False}, {})
    print(json.dumps({"kernels": of_kernels, "version": cellrank.__version__}))
