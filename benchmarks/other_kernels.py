"""Kernels without velocities: times against CellRank, CytoTRACE of many cells, and clonal futures.

Usage: ``python -m benchmarks.other_kernels [--peers DIR] [--cells 100000] [--only pseudotime,cytotrace,clones]``

``DIR`` is a virtual environment with CellRank. The data are ``data/paul15_2660.h5ad`` and ``data/larry_781.h5ad`` under
``$JAXVELO_SHARED``; many cells are made here, 2,000 genes of which a cell expresses a tenth, the layer on disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import scipy.sparse as sp

import jaxvelo as jv
from benchmarks import records
from benchmarks.clonal_futures import measure as clonal_futures
from benchmarks.timing import of_peers, run, seconds, text

GROUPS = ("pseudotime", "cytotrace", "clones")
TIME_KEY = "slingshot_pt_curve1"
N_GENES, SHARE = 2000, 0.1


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="virtual environment with CellRank")
    parser.add_argument("--only", default=",".join(GROUPS), help="comma-separated groups to run")
    parser.add_argument("--cells", default="100000", help="comma-separated numbers of cells for CytoTRACE")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of groups not run")
    arguments = parser.parse_args()
    jv.settings.verbosity = "error"
    found = records.known(arguments.json)
    data = Path(os.environ["JAXVELO_SHARED"]) / "data"
    for group in arguments.only.split(","):
        print(f"running {group}", file=sys.stderr)
        if group == "pseudotime":
            found[group] = pseudotime(data / "paul15_2660.h5ad", arguments.peers)
        elif group == "cytotrace":
            known = found.setdefault(group, {})
            known.update({n: cytotrace(int(n)) for n in arguments.cells.split(",")})
        else:
            with warnings.catch_warnings(action="ignore"):
                adata = anndata.read_h5ad(data / "larry_781.h5ad")
            start = time.process_time()
            found[group] = {"nats": clonal_futures(adata), "cpu": time.process_time() - start}
        records.keep(arguments.json, found)
    print("\n".join(rows(found)))


def pseudotime(file: Path, peers: Path | None) -> dict[str, Any]:
    """Time the pseudotime kernel, warm, beside CellRank's on the same file."""
    adata = anndata.read_h5ad(file)
    adata.X = adata.X.astype(np.float32)
    jv.pp.neighbors(adata, n_neighbors=15, n_pcs=30)

    kept = jv.kernels.PseudotimeKernel(adata, TIME_KEY).compute_transition_matrix()  # its graph is that of all others

    def kernel(scheme):
        assert kept.graph is not None
        return jv.kernels.PseudotimeKernel(adata, TIME_KEY).compute_transition_matrix(scheme).transition_matrix

    schemes = ("hard", "soft")
    found: dict[str, Any] = {"jaxvelo": {s: seconds(lambda s=s: kernel(s), repeats=11, warm_up=2) for s in schemes}}
    if peers is not None:
        with tempfile.TemporaryDirectory() as folder:
            cells = Path(folder) / "cells.h5ad"
            adata.write_h5ad(cells)
            found["CellRank"] = run(of_peers(peers, "peer_other_kernels.py", cells, TIME_KEY))
    return found


def cytotrace(n_cells: int) -> dict[str, float]:
    """Time and memory of the score of many cells: counts sparse in memory, the smooth layer on disk."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smooth.h5"
        pieces = []
        with h5py.File(file, "w") as opened:
            smooth = opened.create_dataset("Ms", (n_cells, N_GENES), dtype=np.float32)
            for start in range(0, n_cells, 10_000):
                n_rows = min(10_000, n_cells - start)
                share = rng.uniform(0.5, 1.5, n_rows) * SHARE
                expressed = rng.random((n_rows, N_GENES), dtype=np.float32) < share[:, None]
                piece = np.where(expressed, rng.random((n_rows, N_GENES), dtype=np.float32) + 0.5, 0)
                smooth[start : start + n_rows] = piece + np.float32(0.1) * share[:, None].astype(np.float32)
                pieces.append(sp.csr_matrix(piece))
            counts = sp.vstack(pieces, format="csr")
            del pieces, piece, expressed
        with h5py.File(file) as opened:
            adata = anndata.AnnData(counts)
            adata.layers["Ms"] = opened["Ms"]
            cells = np.arange(n_cells)
            ring = sp.csr_matrix((np.ones(n_cells), (cells, (cells + 1) % n_cells)), shape=(n_cells, n_cells))
            adata.obsp["connectivities"] = sp.csr_matrix(ring + ring.T)
            kernel = jv.kernels.CytoTRACEKernel(adata)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start, cpu = time.perf_counter(), time.process_time()
            kernel.compute_cytotrace()
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": wall, "cpu": cpu, "peak_gb": peak / 1e6, "more_gb": (peak - before) / 1e6}


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the tables."""
    lines = []
    if "pseudotime" in found:
        ours, theirs = found["pseudotime"]["jaxvelo"], found["pseudotime"].get("CellRank", {})
        lines += ["| `PseudotimeKernel`, paul15, warm | jaxvelo | CellRank | ratio |", "|---|---|---|---|"]
        for scheme, mine in ours.items():
            other = theirs.get(scheme, {}).get("median")
            ratio = "" if other is None else f"{other / mine['median']:.0f}×"
            lines.append(f"| {scheme} | {text(mine['median'])} | {'' if other is None else text(other)} | {ratio} |")
    if "cytotrace" in found:
        lines += [
            "",
            f"| CytoTRACE, cells × {N_GENES:,} genes | s | CPU s | peak GB | more than before |",
            "|---" * 5 + "|",
        ]
        for n_cells, of in found["cytotrace"].items():
            numbers = " | ".join(f"{of[name]:.1f}" for name in ("seconds", "cpu", "peak_gb", "more_gb"))
            lines.append(f"| {int(n_cells):,} | {numbers} |")
    if "clones" in found:
        lines += ["", "| later cells of clones held out, 781 cells, ten steps | nats | se |", "|---|---|---|"]
        for name, of in sorted(found["clones"]["nats"].items(), key=lambda item: item[1]["nats"]):
            lines.append(f"| {name} | {of['nats']:.3f} | {of['se']:.3f} |")
    return lines


if __name__ == "__main__":
    main()
