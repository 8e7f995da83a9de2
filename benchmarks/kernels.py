"""Kernels, walks and projection: jaxvelo against CellRank in one run, and against the machine.

Usage: ``python -m benchmarks.kernels --peers DIR [--only warm,cold,stochastic,monte_carlo]``

``DIR`` is a virtual environment with CellRank and scVelo. The data is ``reference/pancreas_velocity.h5ad`` (3,696
cells × 488 velocity genes) under ``$JAXVELO_SHARED``. Ours and theirs run one after the other, never at the same time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.timing import of_peers, run, text

GROUPS = ("warm", "cold", "monte_carlo", "stochastic")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="virtual environment with CellRank")
    parser.add_argument("--only", default=",".join(GROUPS), help="comma-separated groups of CellRank's steps to run")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of groups not run")
    arguments = parser.parse_args()
    file = str(Path(os.environ["JAXVELO_SHARED"]) / "reference" / "pancreas_velocity.h5ad")
    ours_command = [sys.executable, "-m", "benchmarks.our_kernels", file]
    theirs_command = of_peers(arguments.peers, "peer_kernels.py", file)

    found = records.known(arguments.json) or {"jaxvelo": {}, "CellRank": {}}
    ours, theirs = found["jaxvelo"], found["CellRank"]
    for group in arguments.only.split(","):
        print(f"running {group}", file=sys.stderr)
        if group in ("warm", "cold"):
            ours[group] = run([*ours_command, group])
        theirs[group] = run([*theirs_command, group])
        records.keep(arguments.json, found)
    table = "\n".join(rows(ours, theirs))
    print(table)


def rows(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Lines of the table: what, ours, CellRank's, ratio."""
    versions = " and ".join(sorted({group["version"] for group in theirs.values()}))
    lines = [
        f"{os.cpu_count()} cores ({platform.machine()}), float32, pancreas: 3,696 cells × 488 genes; medians, "
        "warm unless said.",
        "",
        f"| step | jaxvelo | CellRank {versions} | ratio |",
        "|---|---|---|---|",
    ]

    def compare(label: str, mine: float, other: float | None) -> None:
        ratio = "" if other is None else f"{other / mine:,.{0 if other > 10 * mine else 1}f}×"
        lines.append(f"| {label} | {text(mine)} | {'' if other is None else text(other)} | {ratio} |")

    warm = ours.get("warm", {})
    their_warm = theirs.get("warm", {})

    def median(values: dict[str, Any], key: str) -> float | None:
        return values[key]["median"] if key in values else None

    if warm:
        for key, label in (
            ("deterministic", "`VelocityKernel` → transition matrix (CSR), automatic scale"),
            ("connectivity", "`ConnectivityKernel` → transition matrix"),
            ("projection", "projection onto the UMAP"),
            ("walks_100", "100 random walks of 200 steps"),
        ):
            compare(label, warm[key]["median"], median(their_warm, key))
        compare("10,000 random walks of 200 steps", warm["walks_10000"]["median"], None)
        compare(
            "stochastic model, first 300 cells (the 292 of them with neighbours)",
            warm["stochastic_300"]["median"],
            median(theirs.get("stochastic", {}), "stochastic_300"),
        )
        compare("stochastic model, all cells", warm["stochastic"]["median"], None)
        compare(
            "Monte Carlo model, 1,000 samples",
            warm["monte_carlo"]["median"],
            median(theirs.get("monte_carlo", {}), "monte_carlo"),
        )
    if "cold" in ours:
        compare("cold process: import, read, compile, compute", ours["cold"]["process"], theirs["cold"]["process"])
    if warm:
        lines += ["", "| against the machine | |", "|---|---|", *against_machine(warm)]
    return lines


def against_machine(warm: dict[str, Any]) -> list[str]:
    """Lines on floor, gradient, memory and compilations."""
    pure, floor = warm["pure"]["median"], warm["floor"]["median"]
    value, gradient = warm["value"]["median"], warm["gradient"]["median"]
    memory, machine, compiled = warm["memory"], warm["machine"], warm["compilations"]
    bandwidth = warm["gathered_bytes"] / pure
    peak = ", ".join(f"{name} {memory[name] / 1e6:.0f}" for name in (*list(memory)[:3], "gradient"))
    return [
        f"| pure function, over gathering and summing the neighbours' rows ({text(floor)}) | "
        f"{text(pure)}, {pure / floor:.1f}× |",
        f"| gathered bytes per second, of the measured memory bandwidth ({machine['bandwidth'] / 1e9:.0f} GB/s) | "
        f"{bandwidth / 1e9:.1f} GB/s, {bandwidth / machine['bandwidth']:.0%} |",
        f"| value and gradient (scale, weights, gene weights), over the value ({text(value)}) | "
        f"{text(gradient)}, {gradient / value:.1f}× |",
        f"| temporary memory, MB (inputs {memory['inputs'] / 1e6:.0f}; cells × neighbours × genes would be "
        f"{memory['cells_neighbors_genes'] / 1e6:.0f}) | {peak} |",
        f"| slots of the buckets that hold an edge | {warm['fill']:.0%} |",
        f"| programs compiled for a second data set: 1 % fewer cells; 40 % fewer "
        f"({compiled['other_new_shapes']} new bucket shapes) | {compiled['similar']}; {compiled['other']} |",
    ]


if __name__ == "__main__":
    main()
