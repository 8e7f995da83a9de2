"""Kernels without velocities: times against CellRank, CytoTRACE of many cells, clonal futures, and known ends.

Usage: ``python -m benchmarks.other_kernels [--peers DIR] [--cells 100000] [--only pseudotime,cytotrace,clones,ends]``

``DIR`` is a virtual environment with CellRank. The data are those under ``$JAXVELO_SHARED``; many cells are made here,
2,000 genes of which a cell expresses a tenth, the layer on disk.
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
from benchmarks.cells_with_ends import DATA
from benchmarks.clonal_futures import measure as clonal_futures
from benchmarks.identified_ends import N_MACROSTATES, identified
from benchmarks.timing import of_peers, run, seconds, text

GROUPS = ("pseudotime", "cytotrace", "clones", "ends")
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
        elif group == "ends":
            found[group] = known_ends(data.parent, arguments.peers)
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
    found: dict[str, Any] = {"jaxvelo": {s: seconds(lambda s=s: kernel(s), repeats=50, warm_up=5) for s in schemes}}
    if peers is not None:
        with tempfile.TemporaryDirectory() as folder:
            cells = Path(folder) / "cells.h5ad"
            adata.write_h5ad(cells)
            found["CellRank"] = run(of_peers(peers, "peer_other_kernels.py", cells, TIME_KEY))
    return found


def known_ends(shared: Path, peers: Path | None) -> dict[str, Any]:
    """Score, of each kernel, how early known ends are among its macrostates, beside CellRank's on the same file."""
    found: dict[str, Any] = {}
    for name, read in DATA.items():
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
            file = str(Path(folder) / "cells.h5ad")
            read(shared).write_h5ad(file)
            found[name] = {"jaxvelo": identified(jv, file, {}, {"show_progress_bar": False})}
            if peers is not None:
                found[name]["CellRank"] = run(of_peers(peers, "peer_identified_ends.py", file))["kernels"]
    return found


def cytotrace(n_cells: int) -> dict[str, float]:
    """Time and memory of the score of many cells: counts sparse in memory, the smooth layer on disk."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smooth.h5"
        # The counts are made in place: at a million cells, they are what memory there is for.
        most = round(1.01 * SHARE * n_cells * N_GENES) + 10_000
        values, genes, ends = np.empty(most, dtype=np.float32), np.empty(most, dtype=np.int32), [np.zeros(1, np.int64)]
        with h5py.File(file, "w") as opened:
            smooth = opened.create_dataset("Ms", (n_cells, N_GENES), dtype=np.float32)
            for start in range(0, n_cells, 10_000):
                n_rows = min(10_000, n_cells - start)
                share = rng.uniform(0.5, 1.5, n_rows).astype(np.float32) * np.float32(SHARE)
                piece = rng.random((n_rows, N_GENES), dtype=np.float32) + np.float32(0.5)
                piece[rng.random((n_rows, N_GENES), dtype=np.float32) >= share[:, None]] = 0
                stored = sp.csr_matrix(piece)
                done = ends[-1][-1]
                values[done : done + stored.nnz], genes[done : done + stored.nnz] = stored.data, stored.indices
                ends.append(done + stored.indptr[1:].astype(np.int64))
                smooth[start : start + n_rows] = piece + np.float32(0.1) * share[:, None]
        offsets = np.concatenate(ends).astype(np.int32 if ends[-1][-1] < 2**31 else np.int64)
        counts = sp.csr_matrix((values[: offsets[-1]], genes[: offsets[-1]], offsets), shape=(n_cells, N_GENES))
        del stored, piece
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
        title = "`PseudotimeKernel`, paul15, warm: least time (and the processor's)"
        lines += [f"| {title} | jaxvelo | CellRank | ratio |", "|---|---|---|---|"]
        for scheme, mine in ours.items():
            both = [mine, theirs[scheme]] if scheme in theirs else [mine]
            shown = [f"{text(of['min'])} ({text(of['cpu'])})" for of in both]
            ratios = [f"{theirs[scheme][key] / mine[key]:.0f}×" for key in ("min", "cpu") if scheme in theirs]
            of_theirs, ratio = (shown[1], f"{ratios[0]} ({ratios[1]})") if ratios else ("", "")
            lines.append(f"| {scheme} | {shown[0]} | {of_theirs} | {ratio} |")
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
        of_kernels = found["clones"]["nats"]
        lines += [
            "",
            "| nats to the later cells of clones held out, 781 cells | ten steps | of the day | best steps: of the day "
            "| gain over uniform |",
            "|---" * 5 + "|",
        ]
        for name, of in sorted(of_kernels.items(), key=lambda item: item[1]["gain"]):
            cells = [f"{of[key]:.2f}" if key in of else "" for key in ("ten steps", "of the day")]
            chosen = f"{of['chosen']:.2f}" + (f" ({of['steps']:.0f})" if "steps" in of else "")
            lines.append(f"| {name} | {' | '.join(cells)} | {chosen} | {of['gain']:+.2f} ± {of['se']:.2f} |")
    if "ends" in found:
        title = f"identification of known ends (TSI) up to {N_MACROSTATES} macrostates, and its time"
        lines += ["", f"| {title} | cells | jaxvelo | CellRank |", "|---" * 4 + "|"]
        for cells, of in found["ends"].items():
            for kernel, mine in of["jaxvelo"].items():
                other = of.get("CellRank", {}).get(kernel)
                shown = [f"{one['score']:.2f}, {text(one['seconds'])}" if one else "" for one in (mine, other)]
                lines.append(f"| {kernel} | {cells} | {' | '.join(shown)} |")
    return lines


if __name__ == "__main__":
    main()
