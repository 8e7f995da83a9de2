"""The dynamical model: jaxvelo against scVelo and scvelo-rs in one run, against growing data, and against the truth.

Usage::

    python -m benchmarks.dynamics --peers DIR [--only time,growth,large,fit,truth,networks,biology,...]
                                  [--json FILE] [--folder DIR]

``DIR`` is a virtual environment with scVelo, scvelo-rs and CellRank. The data is ``reference/pancreas_velocity.h5ad``
(3,696 cells × 613 genes, with scVelo's own fit) under ``$JAXVELO_SHARED``. Everything runs in a process of its own, one
after the other, never at the same time. The groups:

- ``time``: first fit of a process and further ones, with the peers'; programs compiled for data of another size;
- ``growth``: time and memory with more cells and more genes; ``large`` (if asked for) 100,000 cells × 2,000 genes;
- ``fit``: distance of the cells to the curves;
- ``truth``: simulated cells with known rates, times and velocities;
- ``networks``: cells whose genes regulate each other, and cells that others have simulated, with known rates, times and
  velocities (``$JAXVELO_SHARED/data/truth_*.h5ad``);
- ``biology``: known directions in the pancreas;
- ``rates``: rates of some genes tuned on known fates, on cells left out;
- ``accepted``: CellRank and scVelo going on from our results, and how far theirs are from ours (``paga`` needs igraph).

``--folder`` keeps data and fits; peers' fits to simulated cells that are there already are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import network_truth, records, timing
from benchmarks.dynamics_tables import rows, verdicts

GROUPS = ("time", "growth", "fit", "truth", "networks", "biology", "rates", "accepted")
ASKED_FOR = ("large",)
PEERS = ("scvelo", "scvelo_rs")
CELLS, GENES = (10_000, 30_000, 100_000), (200, 600, 2000)
SEEDS = (1, 2, 3)  # seed 0 served to find the model's settings
NETWORKS = (10, 11, 12)  # seeds 0 to 9 serve to find them


class Benchmark:
    """Groups of measurements over one folder of data and fits.

    Parameters
    ----------
    peers
        Virtual environment of the peers.
    folder
        Where data and fits are written.
    """

    def __init__(self, peers: Path, folder: Path) -> None:
        self._peers = peers
        self._folder = folder
        self._reference = Path(os.environ["JAXVELO_SHARED"]) / "reference" / "pancreas_velocity.h5ad"
        self._pancreas = folder / "pancreas.h5ad"
        self._fitted = False
        # Single precision, and nothing that another process has compiled.
        self._environment = {**os.environ, "JAX_ENABLE_X64": "0"}
        self._environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def measure(self, group: str) -> dict[str, Any]:
        """Run one group."""
        groups = {
            "time": self._time,
            "growth": self._growth,
            "large": self._large,
            "fit": self._fit,
            "truth": self._truth,
            "networks": self._networks,
            "biology": self._biology,
            "rates": self._rates,
            "accepted": self._accepted,
        }
        return groups[group]()

    def _time(self) -> dict[str, Any]:
        """Ours and the peers' on the same bare file."""
        ours = self._fit_pancreas(again=True)
        # Warm next to cold: neither of the peers comes in between.
        result = {"jaxvelo": ours, "warm": self._ours("warm", self._pancreas)}
        for method in PEERS:
            result[method] = self._peer(self._pancreas, method)
        return result

    def _growth(self) -> dict[str, Any]:
        """Sizes along cells and along genes."""
        return {
            "cells": {str(n): self._ours("grow", n, 300) for n in CELLS},
            "genes": {str(n): self._ours("grow", CELLS[0], n) for n in GENES},
        }

    def _large(self) -> dict[str, Any]:
        """One size for which memory matters."""
        return self._ours("grow", CELLS[-1], GENES[-1])

    def _fit(self) -> dict[str, Any]:
        """All fits to the pancreas that are there."""
        self._fit_pancreas()
        fits = [self._folder / f"pancreas_{method}.npz" for method in ("jaxvelo", *PEERS)]
        return self._ours("distances", self._reference, *(fit for fit in fits if fit.exists()))

    def _truth(self) -> dict[str, Any]:
        """Scores by seed, scenario and method."""
        result = {}
        for seed in SEEDS:
            folder = self._folder / f"truth_{seed}"
            if not any(folder.glob("*.h5ad")):
                self._ours("simulate", folder, seed)
            for file in sorted(folder.glob("*.h5ad")):
                for method in PEERS:
                    if not file.with_name(f"{file.stem}_{method}.npz").exists():
                        self._peer(file, method)
            scores = self._ours("truth", folder)
            scores.pop("process")  # of four fits and the scores: it says nothing
            result[str(seed)] = scores
        return result

    def _networks(self) -> dict[str, Any]:
        """Scores by data and method."""
        folder = self._folder / "networks"
        for file in network_truth.make(folder, NETWORKS, files=True):
            for method in network_truth.METHODS:
                if command := network_truth.command(file, method, self._peers):
                    self._run(command)
        return network_truth.scores(folder)

    def _biology(self) -> dict[str, Any]:
        """Known directions with our velocities and with those that scVelo left in the file."""
        self._fit_pancreas()
        return self._ours("directions", self._reference, self._folder / "pancreas_jaxvelo.npz")

    def _rates(self) -> dict[str, Any]:
        """Rates tuned by gradient descent."""
        return self._run([sys.executable, "-m", "benchmarks.tuned_rates"])

    def _accepted(self) -> dict[str, Any]:
        """All of our results in one file, and what the peers make of it."""
        file = self._folder / "pancreas_whole.h5ad"
        self._ours("bare", self._reference, self._pancreas)
        self._ours("whole", self._pancreas, file)
        return self._theirs("peer_acceptance.py", file)

    def _fit_pancreas(self, again: bool = False) -> dict[str, Any]:
        """Fit ours once for all groups; what an earlier run left may come from other code."""
        if self._fitted and not again:
            return {}
        self._ours("bare", self._reference, self._pancreas)
        self._fitted = True
        return self._ours("cold", self._pancreas, self._folder / "pancreas_jaxvelo.npz")

    def _ours(self, step: str, *arguments: Any) -> dict[str, Any]:
        return self._run([sys.executable, "-m", "benchmarks.our_dynamics", step, *arguments])

    def _peer(self, file: Path, method: str) -> dict[str, Any]:
        return self._theirs("peer_dynamics.py", file, method, file.with_name(f"{file.stem}_{method}.npz"))

    def _theirs(self, script: str, *arguments: Any) -> dict[str, Any]:
        return self._run(timing.of_peers(self._peers, script, *arguments))

    def _run(self, command: list[Any]) -> dict[str, Any]:
        words = [str(word) for word in command]
        print("running", *(word for word in words[1:] if word != "-m"), file=sys.stderr)
        result = timing.run(words, env=self._environment)
        print("  ", json.dumps(result)[:300], file=sys.stderr)
        return result


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="virtual environment with all peers")
    parser.add_argument("--only", default=",".join(GROUPS), help="comma-separated groups")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of groups not run")
    parser.add_argument("--folder", type=Path, help="keep data and fits here")
    arguments = parser.parse_args()
    wanted = list(filter(None, arguments.only.split(",")))
    if unknown := set(wanted) - {*GROUPS, *ASKED_FOR}:
        parser.error(f"unknown groups: {', '.join(sorted(unknown))}")
    found = records.known(arguments.json)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        benchmark = Benchmark(arguments.peers, folder.resolve())
        for group in wanted:
            try:
                found[group] = benchmark.measure(group)
            except subprocess.CalledProcessError as error:  # what the other groups find is not lost
                print(f"{group} failed: {error}", file=sys.stderr)
                continue
            records.keep(arguments.json, found)
    table = "\n".join(rows(found))
    print(table, "", *verdicts(found), sep="\n")


if __name__ == "__main__":
    main()
