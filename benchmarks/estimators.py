"""From transition matrix to fates: jaxvelo against CellRank in one run, and against the machine as the cells grow.

Usage: ``python -m benchmarks.estimators [--peers DIR] [--sizes 10000,100000,1000000] [--closed 1,5,20] [--only ...]``

``DIR`` is a virtual environment with CellRank; without it, only ours is measured. The data is
``reference/pancreas_velocity.h5ad`` and ``reference/pancreas_kernels.npz`` under ``$JAXVELO_SHARED`` (0.8 of the
velocities' and 0.2 of the connectivities' matrix). The large chains are made on a tree of known coordinates with 30
neighbours, see :mod:`benchmarks.tree_chain`. Ours and theirs run one after the other, never at the same time.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.estimator_steps import N_STATES
from benchmarks.timing import of_peers, run, text
from benchmarks.tree_chain import BRANCHING

GROUPS = ("warm", "cold", "tsi", "large", "closed")
N_FATES = 5
# Where tips are not left, cells that linger in front of them are slower than the trunk.
MORE_STATES = 3
# Before it, cells are on the trunk.
EARLY = BRANCHING


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="virtual environment with CellRank; none: only ours")
    parser.add_argument("--only", default=",".join(GROUPS), help="comma-separated groups to run")
    parser.add_argument("--sizes", default="10000,100000", help="comma-separated numbers of cells of the large chains")
    parser.add_argument("--closed", default="1,2,5,10,20", help="comma-separated numbers of closed classes")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of groups not run")
    arguments = parser.parse_args()
    folder = Path(os.environ["JAXVELO_SHARED"]) / "reference"
    files = [str(folder / "pancreas_velocity.h5ad"), str(folder / "pancreas_kernels.npz")]
    sizes = [int(size) for size in arguments.sizes.split(",")]

    results = records.known(arguments.json) or {"jaxvelo": {}, "CellRank": {}}
    for group in arguments.only.split(","):
        print(f"running {group}", file=sys.stderr)
        if group == "large":
            results[group] = [large(size) for size in sizes]
        elif group == "closed":
            numbers = [int(number) for number in arguments.closed.split(",")]
            results[group] = [large(max(sizes), max(number, N_FATES), number, MORE_STATES) for number in numbers]
        else:
            results["jaxvelo"][group] = run([sys.executable, "-m", "benchmarks.our_estimators", *files, group])
            if arguments.peers is not None:
                peer = of_peers(arguments.peers, "peer_estimators.py", *files, group)
                results["CellRank"][group] = run(peer)
        records.keep(arguments.json, results)
    table = "\n".join(rows(results))
    print(table)


def large(n_cells: int, n_fates: int = N_FATES, n_closed: int = 0, n_more: int = 1) -> dict[str, Any]:
    """Make a chain in one process, and measure it in another, with so many macrostates more than fates."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "chain.npz")
        make = [sys.executable, "-m", "benchmarks.tree_chain", str(n_cells), file]
        run([*make, "--fates", str(n_fates), "--closed", str(n_closed)])
        try:
            measured = run([sys.executable, "-m", "benchmarks.our_large_chain", file, str(n_fates + n_more)])
        except subprocess.CalledProcessError:  # it has said why
            measured = {"cells": n_cells, "failed": True}
    return {**measured, "closed": n_closed}


def rows(results: dict[str, Any]) -> list[str]:
    """Lines of the tables."""
    lines = [f"{os.cpu_count()} cores ({platform.machine()})."]
    ours, theirs = results["jaxvelo"], results["CellRank"]
    if ours:
        lines += pancreas_rows(ours, theirs)
    if results.get("large"):
        lines += large_rows(results["large"])
    if results.get("closed"):
        lines += closed_rows(results["closed"])
    return lines


def pancreas_rows(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Lines on the pancreas: what, ours, CellRank's, ratio."""
    versions = " and ".join(sorted({group["version"] for group in theirs.values()}))
    lines = [
        "",
        "Pancreas, 3,696 cells; warm unless said.",
        "",
        f"| step | jaxvelo | CellRank {versions}, without PETSc | ratio |",
        "|---|---|---|---|",
    ]

    def compare(label: str, mine: float | None, other: float | None, more: str = "", other_more: str = "") -> None:
        if mine is None:
            return
        ratio = "" if other is None else f"{other / mine:,.{0 if other > 10 * mine else 1}f}×"
        lines.append(
            f"| {label} | {text(mine)}{more} | {'' if other is None else text(other) + other_more} | {ratio} |"
        )

    warm, their_warm = ours.get("warm"), theirs.get("warm")
    if warm:

        def median(values: dict[str, Any] | None, key: str) -> float | None:
            return None if values is None or key not in values else values[key]["median"]

        compare("20 Schur vectors", median(warm, "schur"), median(their_warm, "schur"))
        for n_states in map(str, N_STATES):
            mine = warm["macrostates"][n_states]
            other = (their_warm or {"macrostates": {n_states: {}}})["macrostates"][n_states]
            if "error" in mine:
                lines.append(f"| {n_states} macrostates | {mine['error']} | {other.get('error', '')} | |")
                continue
            compare(
                f"{n_states} macrostates (crispness)",
                mine["median"],
                other.get("median"),
                f" ({mine['crispness']:.3f})",
                f" ({other['crispness']:.3f})" if "crispness" in other else "",
            )
        for key, label in (
            ("fates", "fate probabilities"),
            ("times", "means and variances of absorption times"),
            ("drivers", "drivers of 3 lineages, 613 genes"),
        ):
            compare(label, median(warm, key), median(their_warm, key))
    if "tsi" in ours:
        mine, other = ours["tsi"]["tsi"], theirs.get("tsi", {}).get("tsi")
        compare(
            f"terminal state identification, up to {mine['n_states']} macrostates"
            + (f" (CellRank up to {other['n_states']})" if other else ""),
            mine["median"],
            other and other["median"],
        )
    if "cold" in ours:
        compare(
            "cold process: import, read, Schur vectors, 9 macrostates, fates",
            ours["cold"]["process"],
            theirs["cold"]["process"] if "cold" in theirs else None,
        )
    return lines


def large_rows(found: list[dict[str, Any]]) -> list[str]:
    """Lines on growth."""
    lines = [
        "",
        f"Chains on a tree with {N_FATES} fates, 30 neighbours, cold; the floor is one product with the matrix.",
        "",
        "| cells | Schur vectors (of the floor) | macrostates | fates | together | "
        "peak memory above the matrix, in matrices, up to each of these | largest error of a fate | fates found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chain in found:
        if "failed" in chain:
            lines.append(f"| {chain['cells']:,} | failed | | | | | | |")
            continue
        times = chain["times"]
        peaks = " / ".join(f"{peak / chain['matrix']:.1f}" for peak in chain["peaks"].values())
        lines.append(
            f"| {chain['cells']:,} | {text(times['schur'])} ({times['schur'] / chain['product']:,.0f} × "
            f"{text(chain['product'])}) | {text(times['macrostates'])} | "
            f"{text(times['fates'])} | {text(chain['total'])} | {peaks} × {chain['matrix'] / 1e6:,.0f} MB | "
            f" {chain['error']:.0e} | {chain['fates_found']} of {chain['fates']} |"
        )
    return lines


def closed_rows(found: list[dict[str, Any]]) -> list[str]:
    """Lines on chains with several closed classes."""
    lines = [
        "",
        f"{found[0]['cells']:,} cells on trees with tips that are not left again.",
        "",
        "| closed classes | together | fates found | initial state on the trunk |",
        "|---|---|---|---|",
    ]
    for chain in found:
        if "failed" in chain:
            lines.append(f"| {chain['closed']} | failed | | |")
            continue
        early = "yes" if chain["initial_time"] < EARLY else f"no (time {chain['initial_time']:.2f})"
        lines.append(
            f"| {chain['closed']} | {text(chain['total'])} | {chain['fates_found']} of {chain['fates']} | {early} |"
        )
    return lines


if __name__ == "__main__":
    main()
