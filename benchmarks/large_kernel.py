"""The velocity kernel of very many cells in memory: time, memory, and share of what memory can deliver.

Usage::

    python -m benchmarks.large_kernel [--cells 1000000] [--genes 2000] [--json FILE]

Expression and velocity are random numbers, which cost what others do, and lie where JAX takes them as they are, as
moments, velocities and the layers of :func:`jaxvelo.read` do. Cells are on four branches with noise in 12 dimensions,
with 30 neighbours each (:mod:`faiss`). One process makes them and computes the kernel, first call, compiling included;
its memory counts with everything in it. A million cells take 21 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import anndata
import faiss
import numpy as np
import pandas as pd
import scipy.sparse as sp

import jaxvelo as jv
from benchmarks.growth import measure
from benchmarks.our_left_layers import copied_per_second
from benchmarks.step_costs import step
from benchmarks.timing import text
from jaxvelo.graph._aligned import empty_aligned

N_NEIGHBORS, N_DIMENSIONS, N_BRANCHES, LENGTH = 30, 12, 4, 20
PERIOD = (1 << 24) + 977  # random numbers come again after so many: never at the same genes of neighbours


def graph(n_cells: int) -> sp.csr_matrix:
    """Symmetric graph of cells on branches, with some positive weights."""
    rng = np.random.default_rng(0)
    places = rng.standard_normal((n_cells, N_DIMENSIONS), dtype=np.float32)
    places[np.arange(n_cells), rng.integers(N_BRANCHES, size=n_cells)] += LENGTH * rng.random(n_cells)
    n_lists = int(np.sqrt(n_cells))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(N_DIMENSIONS), N_DIMENSIONS, n_lists)
    index.train(places[rng.choice(n_cells, min(40 * n_lists, n_cells), replace=False)])
    index.add(places)
    index.nprobe = 8
    _, nearest = index.search(places, N_NEIGHBORS)
    rows = np.repeat(np.arange(n_cells), N_NEIGHBORS)[nearest.ravel() >= 0]
    nearest = nearest.ravel()[nearest.ravel() >= 0]
    other = rows != nearest
    weights = rng.random(int(other.sum()), dtype=np.float32) + 0.1
    directed = sp.csr_matrix((weights, (rows[other], nearest[other])), shape=(n_cells, n_cells))
    return directed.maximum(directed.T).tocsr()


def layer(n_cells: int, n_genes: int, seed: int) -> np.ndarray:
    """Standard normal numbers."""
    values = empty_aligned((n_cells, n_genes), np.float32)
    flat, some = values.reshape(-1), np.random.default_rng(seed).standard_normal(PERIOD, dtype=np.float32)
    for start in range(0, flat.size, PERIOD):
        flat[start : start + PERIOD] = some[: flat.size - start]
    return values


def kernel(n_cells: int, n_genes: int) -> None:
    """Make the cells and compute the kernel: a line of JSON for each step on standard output."""
    jv.settings.verbosity = "error"
    connectivities = step("graph", lambda: graph(n_cells))
    names = pd.RangeIndex(n_cells).astype(str), pd.RangeIndex(n_genes).astype(str)
    adata = anndata.AnnData(obs=pd.DataFrame(index=names[0]), var=pd.DataFrame(index=names[1]))
    adata.layers["Ms"], adata.layers["velocity"] = (layer(n_cells, n_genes, seed) for seed in (1, 2))
    adata.obsp["connectivities"] = connectivities
    adata.uns["neighbors"] = {"connectivities_key": "connectivities"}
    step("velocity kernel", lambda: jv.kernels.VelocityKernel(adata).compute_transition_matrix())
    print(json.dumps({"step": "edges", "number": connectivities.nnz}), flush=True)


def table(numbers: dict[str, Any]) -> str:
    """One line for each size."""
    lines = ["| cells × genes | edges | time | processor | peak | gathered | of copies | load |", "|---" * 8 + "|"]
    for size, found in numbers.items():
        cost, n_genes = found["steps"]["velocity kernel"], int(size.split(" × ")[1].replace(",", ""))
        n_edges = found["steps"]["edges"]["number"]
        speed = 4 * n_edges * n_genes / cost["wall"]
        lines.append(
            f"| {size} | {n_edges:,} | {text(cost['wall'])} | {text(cost['cpu'])} | {cost['peak'] / 2**30:.1f} GiB | "
            f"{speed / 1e9:.1f} GB/s | {speed / found['copied']:.0%} of {found['copied'] / 1e9:.1f} GB/s | "
            f"{found['load']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="1000000")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help="compute in this process, with lines of JSON for each step")
    arguments = parser.parse_args()
    if arguments.here:
        kernel(int(arguments.cells), arguments.genes)
        return
    known = arguments.json is not None and arguments.json.exists()
    numbers = json.loads(arguments.json.read_text()) if known else {}
    for n_cells in map(int, arguments.cells.split(",")):
        options = ["--here", "--cells", str(n_cells), "--genes", str(arguments.genes)]
        copied = copied_per_second()
        found = measure([sys.executable, "-m", "benchmarks.large_kernel", *options], 60)
        if found["ended"] is not None:
            raise SystemExit(f"{n_cells:,} cells: {found['ended']}")
        numbers[f"{n_cells:,} × {arguments.genes:,}"] = found | {"copied": copied}
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(numbers, indent=1) + "\n")
    print(table(numbers))


if __name__ == "__main__":
    main()
