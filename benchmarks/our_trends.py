"""One cold and one warm fit of trends, as JSON on standard output.

Usage: ``python -m benchmarks.our_trends FILE.h5ad {normal,poisson,nb}``
"""

from __future__ import annotations

import json
import sys
import time

import anndata

import jaxvelo as jv


def main(file: str, distribution: str) -> dict[str, float]:
    """Fit three times: with compilation, again, and with the tests of all pairs of lineages."""
    adata = anndata.read_h5ad(file)
    layer = None if distribution == "normal" else "counts"
    found: dict[str, float] = {}
    for name in ("first", "again", "differences"):
        start, used = time.perf_counter(), time.process_time()
        trends = jv.tl.fit_trends(
            adata, time_key="time", layer=layer, distribution=distribution, differences=name == "differences"
        )
        found[name], found[f"{name}_cpu"] = time.perf_counter() - start, time.process_time() - used
    return {**found, "curves": len(trends.genes) * len(trends.lines)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
