"""More cells than fit in memory, from counts on disk to fates; the velocity kernel in memory beside it; and the floor.

Usage::

    python -m benchmarks.large [--cells 1000000] [--genes 2000] [--limit "2 GiB"] [--folder DIR] [--only PART,...]
                               [--json FILE]

Parts are ``streamed``, from counts to fates with layers on disk, ``in_memory``, the kernel of the same layers, and
``floor``: bytes that the kernel gathers by the bandwidth of copies, and one reading of its layers. Cells are those of
:func:`jaxvelo.datasets.simulate`, with 30 neighbours; all genes are velocity genes. Everything is done once, so that
times hold what is compiled. A million cells take 50 GB of the folder, and 19 GiB of memory for the kernel in memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.growth import measure
from benchmarks.kernels import text

PARTS = ("streamed", "in_memory", "floor")
MINUTES = 120.0


def table(numbers: dict[str, Any]) -> str:
    """Time and largest resident memory of each step, and what the kernel takes in units of the floor."""
    steps = {name: cost for part in PARTS for name, cost in numbers.get(part, {"steps": {}})["steps"].items()}
    floor = steps.pop("floor", None)
    lines = [
        f"{numbers['cells']:,} cells × {numbers['genes']:,} genes, 30 neighbours, first calls; layers on disk are read "
        f"with `memory_limit='{numbers['limit']}'`. Memory is the largest resident one of the process meanwhile.",
        "",
        "| step | time | processor | memory |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {text(cost['wall'])} | {text(cost['cpu'])} | {cost['peak'] / 2**30:.2g} GiB |"
        for name, cost in steps.items()
    ]
    streamed = numbers.get("streamed", {"steps": {}})["steps"]
    if "fates" in streamed:
        lines += ["", f"From counts on disk to fates: {text(sum(cost['wall'] for cost in streamed.values()))}."]
    if floor is not None:
        least = floor["bytes"] / floor["bandwidth"]
        lines += [
            "",
            f"Copies on all cores reach {floor['bandwidth'] / 1e9:.1f} GB/s, read and written; one reading of the "
            f"layers from disk takes {text(floor['reading'])}. The expression of the neighbours at "
            f"{floor['edges']:,} edges has {floor['bytes'] / 1e9:.0f} GB, which take {text(least)} at that bandwidth: "
            + "; ".join(
                f"{name}: {least / cost['wall']:.0%}"
                for name, cost in steps.items()
                if name.startswith("velocity kernel")
            )
            + " of the floor.",
        ]
    for part in PARTS:
        if numbers.get(part, {}).get("ended"):
            lines += ["", f"{part} ended before the last step: {numbers[part]['ended']}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, write the results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--limit", default="2 GiB", help="memory for what is read of layers on disk")
    parser.add_argument("--folder", type=Path, help="where counts and layers are written to, and kept")
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of parts not run")
    arguments = parser.parse_args()
    asked = {key: getattr(arguments, key) for key in ("cells", "genes", "limit")}
    numbers: dict[str, Any] = asked
    if arguments.json and arguments.json.exists():
        known = json.loads(arguments.json.read_text())
        numbers = known if {key: known[key] for key in asked} == asked else numbers
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        file, layers = folder / f"large_{arguments.cells}_{arguments.genes}.h5ad", folder / "large.layers"
        ours = [sys.executable, "-m", "benchmarks.our_growth"]
        if not file.exists():
            made = measure([*ours, "simulate", str(arguments.cells), str(arguments.genes), str(file)], MINUTES)
            if made["ended"]:
                raise RuntimeError(f"Could not simulate {arguments.cells} cells: {made['ended']}")
        layers.mkdir(exist_ok=True)
        of_part = {
            "streamed": [str(file), str(layers), arguments.limit],
            "in_memory": [str(layers)],
            "floor": [str(layers)],
        }
        for part in arguments.only.split(","):
            print(part, file=sys.stderr)
            found = measure([sys.executable, "-m", "benchmarks.our_large", part, *of_part[part]], MINUTES)
            numbers[part] = found | {key: records.surroundings()[key] for key in ("date", "commit", "machine")}
            if arguments.json:
                arguments.json.write_text(json.dumps(numbers, indent=1))
    print(table(numbers))


if __name__ == "__main__":
    main()
