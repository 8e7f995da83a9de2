"""One kernel on several simulated devices: how even the work is, what is sent between them, and that it is the same.

Usage: ``python -m benchmarks.devices [--cells 20000] [--genes 200] [--neighbors 30] [--devices 2,4,8] [--json FILE]``

The cells are points along a tree of four branches in 20 dimensions, with noise in five.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from benchmarks import records


def tree_graph(n_cells: int, n_neighbors: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Symmetric neighbour graph of cells along a tree."""
    time_of_cell, branch = 4 * rng.random(n_cells), rng.integers(0, 4, n_cells)
    directions = rng.normal(size=(4, 20))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    along = np.minimum(time_of_cell, 1)[:, None] * directions[0]
    along += np.maximum(time_of_cell - 1, 0)[:, None] * directions[branch]
    points = along + 0.05 * rng.normal(size=(n_cells, 5)) @ rng.normal(size=(5, 20))
    _, near = cKDTree(points).query(points, n_neighbors)
    ends = np.arange(0, near[:, 1:].size + 1, n_neighbors - 1)
    graph = sp.csr_matrix((np.ones(ends[-1]), near[:, 1:].ravel(), ends), shape=(n_cells, n_cells))
    return sp.csr_matrix(graph.maximum(graph.T))


def table(found: list[dict[str, Any]]) -> str:
    """One line for each number, one column for each number of devices."""

    def line(name: str) -> str:
        numbers = (point[name] for point in found)
        return " | ".join([f"| {name}", *(f"{x:.3g}" if isinstance(x, float) else f"{x:,}" for x in numbers)]) + " |"

    heading, *others = map(line, found[0])
    return "\n".join([heading, "|---|" + "---|" * len(found), *others])


def main() -> None:
    """Measure, write the results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=200)
    parser.add_argument("--neighbors", type=int, default=30)
    parser.add_argument("--devices", default="2,4,8")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.devices.split(",")]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(numbers)}"
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}

    import jax

    from jaxvelo.graph import NeighborGraph
    from jaxvelo.transitions import Velocity

    rng = np.random.default_rng(0)
    matrix = tree_graph(arguments.cells, arguments.neighbors, rng)
    x, v = (rng.normal(size=(arguments.cells, arguments.genes)).astype(np.float32) for _ in range(2))
    alone = NeighborGraph.from_csr(matrix)
    n_slots = sum(mask.size for mask in alone.mask)
    expected = Velocity()(alone, x, v).to_csr()
    found: list[dict[str, Any]] = []
    for n_devices in numbers:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:n_devices]), ("cells",))
        start = time.process_time()
        graph = NeighborGraph.from_csr(matrix, mesh=mesh, halo=True)
        built = time.process_time() - start
        edges, slots = np.zeros(n_devices), np.zeros(n_devices)
        for mask in graph.mask:
            for shard in mask.addressable_shards:
                edges[shard.device.id] += np.asarray(shard.data).sum()
                slots[shard.device.id] += shard.data.size
        # In each bucket, the rows of the devices follow one another.
        of_rows = [np.repeat(np.arange(n_devices), len(rows) // n_devices) for rows in graph.rows]
        device = np.concatenate(of_rows)[np.asarray(graph.position)]
        entries = matrix.tocoo()
        outside = device[entries.row] != device[entries.col]
        needed = len(np.unique(device[entries.row[outside]] * arguments.cells + entries.col[outside]))
        assert graph.halo is not None
        difference = abs(Velocity()(graph, x, v).to_csr() - expected).max()
        row_bytes = x.shape[1] * x.itemsize
        found.append(
            {
                "devices": n_devices,
                "slots of the largest over the mean": slots.max() / slots.mean(),
                "edges of the largest over the mean": edges.max() / edges.mean(),
                "slots over those on one device": slots.sum() / n_slots,
                "cells": arguments.cells,
                "cells that devices need of others, all together": needed,
                "cells sent": graph.halo.n_sent,
                "rounds": len(graph.halo.pairs),
                "bytes sent by the deterministic model": graph.halo.n_sent * row_bytes,
                "bytes of expression and velocity": x.nbytes + v.nbytes,
                "largest difference from one device": float(difference),
                "seconds to build the graph (processor)": built,
            }
        )
    records.keep(arguments.json, found)
    print(table(found))


if __name__ == "__main__":
    main()
