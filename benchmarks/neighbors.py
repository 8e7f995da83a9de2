"""Neighbours: the first call in a process, import included, of jaxvelo and of scanpy; and what the search finds.

Usage: ``python -m benchmarks.neighbors --peers DIR [--cells 10000,100000] [--repeats 3]``

``DIR`` is a virtual environment with scanpy; with pynndescent 0.7, scanpy up to 1.12 at least fails above 8,192 cells,
so that it takes pynndescent below 0.6. The cells lie along branches in 30 dimensions whose variance falls as that of
principal components does. Ours and theirs run one after the other, never at the same time.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.timing import of_peers, run, text


def make(n_cells: int, n_dims: int = 30, n_branches: int = 8, seed: int = 0) -> np.ndarray:
    """Coordinates of cells along branches, like principal components of cells that differentiate."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(1 + np.arange(n_dims))
    time, branch = rng.random(n_cells), rng.integers(0, n_branches, n_cells)
    ends = 3 * rng.normal(size=(n_branches, n_dims))
    bend = np.outer(np.sin(3 * time), 3 * rng.normal(size=n_dims))
    return ((ends[branch] * time[:, None] + bend + rng.normal(size=(n_cells, n_dims))) * spread).astype(np.float32)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="virtual environment with scanpy; none: only ours")
    parser.add_argument("--cells", default="10000,100000", help="comma-separated numbers of cells")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores ({platform.machine()}), 30 dimensions, 30 neighbours; medians of cold processes.\n")
    print("| cells | jaxvelo | scanpy | ratio | neighbours found |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for n_cells in map(int, arguments.cells.split(",")):
            file = str(Path(folder) / "cells.npy")
            np.save(file, make(n_cells))
            command = [sys.executable, "-m", "benchmarks.our_neighbors", file]
            ours = statistics.median(run([*command, "cold"])["in_process"] for _ in range(arguments.repeats))
            found = run([*command, "recall"])["recall"]
            theirs = ratio = ""
            if arguments.peers is not None:
                peer = of_peers(arguments.peers, "peer_neighbors.py", file)
                results = [run(peer) for _ in range(arguments.repeats)]
                if "error" in results[0]:
                    theirs = f"{results[0]['version']}: {results[0]['error']}"
                else:
                    seconds = statistics.median(result["in_process"] for result in results)
                    theirs, ratio = f"{text(seconds)} ({results[0]['version']})", f"{seconds / ours:.1f}×"
            print(f"| {n_cells:,} | {text(ours)} | {theirs} | {ratio} | {found:.1%} |", flush=True)


if __name__ == "__main__":
    main()
