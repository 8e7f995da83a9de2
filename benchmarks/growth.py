"""How every step from counts to fates grows with the number of cells: time, processor, memory; peers beside it.

Usage::

    python -m benchmarks.growth [--cells 3000,10000,30000] [--genes 2000] [--peers DIR] [--peers-only] [--minutes 60]
                                [--peer-minutes 10] [--stream-from 200000] [--limit "2 GiB"] [--folder DIR]
                                [--json FILE] [--figure FILE]

``DIR`` is a virtual environment with CellRank and scVelo. Cells are those of :func:`jaxvelo.datasets.simulate`, with 30
neighbours; all genes are velocity genes. For each number of cells there is one process of ours and one of theirs, one
after the other, which does one step after the other until it is done or its time is up. Times are those of first calls,
with what is compiled; the load is the machine's average over the last 15 minutes. From ``--stream-from`` cells on,
ours has counts and layers on disk, and computes the velocity kernel in memory, and the dynamical model of some genes on
disk, in processes of their own: a million cells take 65 GB of the folder and 20 GiB of memory. ``--json`` keeps the
numbers of cells that are not run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.timing import of_peers, text

OURS, THEIRS = "jaxvelo", "CellRank, scVelo"
OUT_OF_TIME = "out of time"
CLOCK = 0.01  # seconds that the processor's clock tells apart


def measure(command: list[str], minutes: float) -> dict[str, Any]:
    """Run a process that prints a line for each step; give its steps, and how it ended if not well."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        # A session of its own: the peers start processes, which must end with them.
        process = subprocess.Popen(command, cwd=records.ROOT, stdout=out, stderr=errors, start_new_session=True)
        try:
            code, ended = process.wait(60 * minutes), None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code, ended = 0, OUT_OF_TIME
        out.seek(0)
        errors.seek(0)
        if code:
            last = errors.read().strip().splitlines()[-1:]
            ended = f"signal {-code}" if code < 0 else " ".join(last)[:200] or f"exit status {code}"
        lines = [line for line in out.read().splitlines() if line.startswith('{"step"')]
    costs = [json.loads(line) for line in lines]
    return {"steps": {cost.pop("step"): cost for cost in costs}, "ended": ended, "load": os.getloadavg()[2]}


_OURS = [sys.executable, "-m", "benchmarks.our_growth"]


def ours(file: Path, layers: Path | None, limit: str, minutes: float) -> dict[str, Any]:
    """Measure our steps, in memory, or with layers in a folder; then also the kernel in memory, and its floor."""
    print(f"{file.stem}: {OURS}", file=sys.stderr)
    if layers is None:
        return measure([*_OURS, "in_memory", str(file)], minutes)
    shutil.rmtree(layers, ignore_errors=True)  # layers of a run before would be found, and not computed
    layers.mkdir()
    point = measure([*_OURS, "streamed", str(file), str(layers), limit], minutes)
    command = [sys.executable, "-m", "benchmarks.our_left_layers"]
    for part in ("kernel", "floor", "dynamics") if point["ended"] is None else ():
        found = measure([*command, part, str(layers), limit], minutes)
        point["steps"] |= found["steps"]
        point["ended"] = point["ended"] or found["ended"]
    return point | {"floor": point["steps"].pop("floor", None), "limit": limit}


def exponent(costs: dict[int, float]) -> float | None:
    """Slope of the logarithm of a cost by that of the cells, over the two largest numbers of cells."""
    sizes = sorted(costs)[-2:]
    if len(sizes) < 2:
        return None
    small, large = sizes
    return float(np.log(max(costs[large], CLOCK) / max(costs[small], CLOCK)) / np.log(large / small))


def by_step(points: dict[str, Any], kind: str) -> dict[str, dict[int, float]]:
    """One kind of cost, of each step by the number of cells."""
    found: dict[str, dict[int, float]] = {}
    for size, point in points.items():
        for name, cost in point["steps"].items():
            found.setdefault(name, {})[int(size)] = cost[kind]
    return found


def table(numbers: dict[str, Any]) -> str:
    """Lines of the table: time and largest memory of each step, and exponents of the processor's time."""
    sizes = sorted({int(size) for points in numbers["points"].values() for size in points})
    lines = [
        f"{numbers['genes']:,} genes, 30 neighbours, first calls; time, and the largest resident memory of the process "
        "up to there. The exponent is that of the processor's time, over the two largest numbers of cells; where the "
        "machine had more to do (its load), both are larger.",
        "",
        f"| step | | {' | '.join(f'{size:,}' for size in sizes)} | exponent |",
        "|---|---|" + "---|" * (len(sizes) + 1),
    ]
    for who, points in _points(numbers):
        loads = [points.get(str(size), {}).get("load") for size in sizes]
        shown = ("" if load is None else f"{load:.1f}" for load in loads)
        lines.append(f"| load of the machine | {who} | {' | '.join(shown)} |  |")
    of_all = {who: [by_step(points, kind) for kind in ("wall", "cpu", "peak")] for who, points in _points(numbers)}
    for name in of_all[OURS][0]:
        for who, (walls, processor, peaks) in of_all.items():
            if name not in walls:
                continue
            cells = [
                f"{text(walls[name][size])}, {peaks[name][size] / 1e9:.2g} GB" if size in walls[name] else ""
                for size in sizes
            ]
            slope = exponent(processor[name])
            lines.append(f"| {name} | {who} | {' | '.join(cells)} | {'' if slope is None else f'{slope:.2f}'} |")
    for size, point in numbers["points"].get(OURS, {}).items():
        if point.get("floor"):
            lines += ["", _floor_line(int(size), point)]
    for who, points in _points(numbers):
        for size, point in points.items():
            if point["ended"]:
                lines += ["", f"{who}, {int(size):,} cells, ended before the last step: {point['ended']}."]
    return "\n".join(lines)


def _floor_line(n_cells: int, point: dict[str, Any]) -> str:
    """What the velocity kernel takes beside the least that its bytes take."""
    floor, steps = point["floor"], point["steps"]
    least = floor["bytes"] / floor["bandwidth"]
    shares = [f"{least / steps[name]['wall']:.0%} ({name})" for name in steps if name.startswith("velocity kernel")]
    to_fates = list(steps)[: list(steps).index("fates") + 1]
    beside = ("simulate", "velocity, stochastic", "velocity kernel, once more", "projection")
    total = sum(steps[name]["wall"] for name in to_fates if name not in beside)
    return (
        f"{n_cells:,} cells: counts and layers on disk, read with `memory_limit='{point['limit']}'`; from counts to "
        f"fates, by deterministic velocities, {text(total)}. The neighbours' expression at {floor['edges']:,} edges "
        f"is {floor['bytes'] / 1e9:.0f} GB, {text(least)} at the {floor['bandwidth'] / 1e9:.1f} GB/s of copies on all "
        f"cores, read and written: the kernel reaches {', '.join(shares)} of that. One reading of expression and "
        f"velocity from disk takes {text(floor['reading'])}."
    )


def _points(numbers: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(who, numbers["points"][who]) for who in (OURS, THEIRS) if who in numbers["points"]]


def draw(numbers: dict[str, Any], file: Path) -> None:
    """Draw time by cells, a line for each step, ours beside theirs."""
    import matplotlib.pyplot as plt

    points = _points(numbers)
    figure, axes = plt.subplots(1, len(points), figsize=(5.5 * len(points), 4.5), sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for _, of_sizes in points for name in by_step(of_sizes, "wall")))
    all_sizes = sorted({int(size) for _, of_sizes in points for size in of_sizes})
    for axis, (who, of_sizes) in zip(axes[0], points, strict=True):
        for name, costs in by_step(of_sizes, "wall").items():
            sizes = sorted(costs)
            number = names.index(name)
            color, style = f"C{number % 10}", "-o" if number < 10 else "--s"
            axis.loglog(sizes, [costs[size] for size in sizes], style, color=color, label=name, markersize=4)
        axis.set(title=who, xlabel="cells", xlim=(0.8 * all_sizes[0], 1.25 * all_sizes[-1]))
        axis.set_xticks(all_sizes, [f"{size:,}" for size in all_sizes])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.92, 0.5), frameon=False)
    figure.savefig(file, bbox_inches="tight", dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure, write the results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="3000,10000,30000", help="comma-separated numbers of cells")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--peers", type=Path, help="virtual environment with CellRank and scVelo; none: only ours")
    parser.add_argument("--peers-only", action="store_true", help="keep the numbers of ours")
    parser.add_argument("--minutes", type=float, default=60, help="longest time for one number of cells")
    parser.add_argument("--peer-minutes", type=float, default=10, help="the same for the peers")
    parser.add_argument("--stream-from", type=int, default=200_000, help="from so many cells on, layers are on disk")
    parser.add_argument("--limit", default="2 GiB", help="memory for what is read of layers on disk")
    parser.add_argument("--folder", type=Path, help="where counts and layers are written to, and kept")
    parser.add_argument("--figure", type=Path, help="draw times by cells")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of sizes not run")
    arguments = parser.parse_args()
    numbers = records.known(arguments.json)
    if numbers.get("genes") != arguments.genes:
        numbers = {"genes": arguments.genes, "points": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for n_cells in map(int, arguments.cells.split(",")):
            file = folder / f"growth_{n_cells}_{arguments.genes}.h5ad"
            made = {"steps": {}, "ended": None}
            if not file.exists():
                command = [*_OURS, "simulate", str(n_cells), str(arguments.genes), str(file)]
                made = measure(command, 600)
                if made["ended"]:
                    raise RuntimeError(f"Could not simulate {n_cells} cells: {made['ended']}")
            layers = file.with_suffix(".layers") if n_cells >= arguments.stream_from else None
            points = {} if arguments.peers_only else {OURS: ours(file, layers, arguments.limit, arguments.minutes)}
            for point in points.values():
                point["steps"] = made["steps"] | point["steps"]
            if arguments.peers is not None:
                print(f"{n_cells} cells: {THEIRS}", file=sys.stderr)
                command = of_peers(arguments.peers, "peer_growth.py", file)
                points[THEIRS] = measure(command, arguments.peer_minutes)
            for who, point in points.items():
                point |= {key: records.surroundings()[key] for key in ("date", "commit", "machine")}
                of_sizes = numbers["points"].setdefault(who, {})
                of_sizes[str(n_cells)] = point
                numbers["points"][who] = dict(sorted(of_sizes.items(), key=lambda item: int(item[0])))
            records.keep(arguments.json, numbers)
            if arguments.folder is None:
                file.unlink()
                shutil.rmtree(layers or "", ignore_errors=True)
    print(table(numbers))
    if arguments.figure:
        draw(numbers, arguments.figure)


if __name__ == "__main__":
    main()
