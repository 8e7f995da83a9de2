"""All benchmarks, or some, in one run: numbers to ``benchmarks/results``, and tables of the newest ones.

Usage: ``python -m benchmarks [--only GROUP,...] [--peers DIR] [--tables] [argument of a group ...]``

Each group is a module of this package that can also be run by itself; further arguments, such as ``--cells 3000,10000``
after ``--only growth``, go to it. ``results/GROUP.json`` has its numbers and its table, with the machine, the versions
and the commit; ``RESULTS.md`` shows the tables and pictures of all groups. ``--tables`` only writes that page. Of a
group that was last measured before such records were kept, it shows ``results/GROUP.md`` until the group is run. Of a
group that fails, what it measured before is kept, and the exit status is not zero.
``DIR`` is a virtual environment with CellRank, scVelo and scvelo-rs; without it, what needs them is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import records


@dataclass(frozen=True)
class Group:
    """How a group of benchmarks is run, and what it can be asked for."""

    title: str
    peers: str = "none"  # or "optional", "required"
    numbers: bool = True
    figure: bool = False
    file: bool = False


GROUPS = {
    "growth": Group("From counts to fates as the cells grow", peers="optional", figure=True),
    "large_kernel": Group("The velocity kernel of a million cells, in memory"),
    "neighbors": Group("Neighbours", peers="optional", numbers=False),
    "kernels": Group("Kernels, walks and projection", peers="required"),
    "other_kernels": Group("Kernels without velocities", peers="optional"),
    "estimators": Group("From a transition matrix to fates", peers="optional"),
    "dynamics": Group("The dynamical model", peers="required"),
    "trends": Group("Trends of genes", peers="optional"),
    "fates": Group("Fates against known ones", figure=True),
    "fit": Group("Fitted kernels", figure=True),
    "perturbation": Group("Silenced genes against the genes behind each fate"),
    "terminal_states": Group("Terminal states against known ends", numbers=False),
    "devices": Group("One kernel on several simulated devices"),
    "accelerator": Group("The default device against the CPU", file=True),
}
PAGE = records.ROOT / "benchmarks" / "RESULTS.md"
REFERENCE = Path("reference") / "pancreas_velocity.h5ad"


def run(name: str, peers: Path | None, further: list[str]) -> None:
    """Run a group in a process of its own, and write its record."""
    group = GROUPS[name]
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    if group.file:
        command.append(str(Path(os.environ["JAXVELO_SHARED"]) / REFERENCE))
    if peers is not None and group.peers != "none":
        command += ["--peers", str(peers)]
    records.RESULTS.mkdir(exist_ok=True)
    if group.figure:
        command += ["--figure", str(_picture(name))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "numbers.json"
        known = records.read(name)
        if group.numbers:
            command += ["--json", str(file)]
            if known is not None:  # parts that are not run now are kept
                records.keep(file, known["numbers"])
        try:
            done = subprocess.run([*command, *further], cwd=records.ROOT, check=True, stdout=subprocess.PIPE, text=True)
        except subprocess.CalledProcessError as error:
            _keep_measured(name, file, known, f"Failed with exit status {error.returncode}", error.stdout)
            raise
        except KeyboardInterrupt:
            _keep_measured(name, file, known, "Stopped", "")
            raise
        numbers = json.loads(file.read_text()) if group.numbers else None
    records.write(name, numbers, done.stdout.strip())


def _keep_measured(name: str, file: Path, known: dict[str, Any] | None, what: str, printed: str) -> None:
    """Write a record of what a group had measured before it failed, if anything."""
    numbers = records.known(file)
    if numbers and (known is None or numbers != known["numbers"]):
        print(f"keeping what {name} had measured", file=sys.stderr)
        table = f"{what}; what was measured until then is in `{name}.json`, beside what was known before.\n\n{printed}"
        records.write(name, numbers, table.strip())


def page() -> str:
    """Tables and pictures of the newest results of all groups."""
    lines = ["# Results of the benchmarks", "", "Written by `python -m benchmarks`.", ""]
    for name, group in GROUPS.items():
        record, earlier = records.read(name), records.RESULTS / f"{name}.md"
        if record is not None:
            shown = f"`python -m benchmarks.{name}`: {records.line(record)}.\n\n{record['table']}"
        elif earlier.exists():
            shown = earlier.read_text().strip()
        else:
            continue
        lines += [f"## {group.title}", "", shown, ""]
        if _picture(name).exists():
            lines += [f"![{group.title}]({_picture(name).relative_to(PAGE.parent)})", ""]
    return "\n".join(lines)


def _picture(name: str) -> Path:
    return records.RESULTS / f"{name}.png"


def main() -> None:
    """Run the groups, one after the other; one that fails does not keep the others from running."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"comma-separated groups of {', '.join(GROUPS)}")
    parser.add_argument("--peers", type=Path, help="virtual environment with CellRank, scVelo and scvelo-rs")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the page of tables")
    arguments, further = parser.parse_known_args()
    names = arguments.only.split(",") if arguments.only else list(GROUPS)
    unknown = sorted(set(names) - set(GROUPS))
    if unknown:
        parser.error(f"there are no groups {unknown}; there are {', '.join(GROUPS)}")
    if further and len(names) > 1:
        parser.error(f"{further} belong to one group: name it as --only")
    failed = []
    for name in () if arguments.tables else names:
        if GROUPS[name].peers == "required" and arguments.peers is None:
            print(f"left out {name}, which needs --peers", file=sys.stderr)
            continue
        if GROUPS[name].file and "JAXVELO_SHARED" not in os.environ:
            print(f"left out {name}, which needs the data under JAXVELO_SHARED", file=sys.stderr)
            continue
        print(f"running {name}", file=sys.stderr)
        try:
            run(name, arguments.peers, further)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} (exit status {error.returncode})")
    records.replace(PAGE, page())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
