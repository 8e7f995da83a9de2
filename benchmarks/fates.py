"""Fates against known ones: how true, how well calibrated, how certain; the convention beside fitted kernels.

Usage: ``python -m benchmarks.fates [--only SECTION;…] [--json FILE] [--figure FILE]``

Each section runs in a process of its own, at float32; the data is under ``$JAXVELO_SHARED``. ``--json`` keeps the
sections that are not run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.timing import run

TRUTH = (
    "2 fates",
    "3 fates, one of 5 %",
    "5 nested fates",
    "dyngen, estimated velocities",
    "dyngen, true velocities",
)
SECTIONS = (*TRUTH, "coverage", "gradients")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=";".join(SECTIONS), help="sections, separated by semicolons")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of sections not run")
    parser.add_argument("--figure", type=Path, help="draw the reliability of the fates")
    arguments = parser.parse_args()
    found = records.known(arguments.json)
    for section in filter(None, arguments.only.split(";")):
        print(f"running {section}", file=sys.stderr)
        found[section] = run([sys.executable, "-m", "benchmarks.our_fates", section])
        records.keep(arguments.json, found)
    table = "\n".join(rows(found))
    print(table)
    if arguments.figure:
        draw_reliability(found, arguments.figure)


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the tables."""
    lines = [f"{os.cpu_count()} cores ({platform.machine()}), float32; scored on cells that no fit has seen."]
    truth = [name for name in TRUTH if name in found]
    if truth:
        lines += [
            "",
            "| cells | kernel | softmax scale, weight of the velocities | log score | accuracy | Brier | ECE | "
            "log score, accuracy with ends found | ends found (states) |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for name in truth:
        for contender, scores in found[name]["scores"].items():
            lines.append(f"| {name} | {contender} | {truth_row(scores)} |")
    if truth:
        lines += ["", "| said | " + " | ".join(truth) + " |", "|---" * (len(truth) + 1) + "|"]
        tables = [found[name]["scores"]["convention"]["given"]["reliability"] for name in truth]
        for i in range(10):
            shown = [observed(table, i) for table in tables]
            lines.append(f"| {i / 10:.1f} to {(i + 1) / 10:.1f} | " + " | ".join(shown) + " |")
        lines += ["", "How often a fate is true that the convention gives such a probability (cells)."]
    if "coverage" in found:
        lines += [
            "",
            "| method | errors, standard deviations of each gene's velocities | fates of the kernel without errors | "
            "fates of the cells | median width |",
            "|---|---|---|---|---|",
        ]
        for name, held in found["coverage"].items():
            if isinstance(held, dict):
                method, errors = name.replace("_", " ").split(", ", 1)
                part = f"{held['held']:.0%} ± {held['error']:.0%} | {held['of_cells']:.0%}"
                lines.append(f"| {method} | {errors} | {part} | {held['width']:.3f} |")
        lines += [
            "",
            "Coverage of intervals of 90 % and its standard error: trees with 2 and 3 fates, 500 cells, each with "
            "errors of 12 seeds (shared by all cells) or 5.",
        ]
    if "gradients" in found:
        lines += ["", "| pancreas, 3,696 cells | value | with gradient | ratio |", "|---|---|---|---|"]
        for name, taken in found["gradients"].items():
            if isinstance(taken, dict):
                value, both = taken["value"], taken["with_gradient"]
                lines.append(
                    f"| {name.replace('_', ' ')} | {value * 1e3:.0f} ms | {both * 1e3:.0f} ms | {both / value:.1f} |"
                )
    return lines


def truth_row(scores: dict[str, Any]) -> str:
    """Cells of one line about the truth."""
    given, ends = scores["given"], scores.get("found")
    parameters = scores.get("parameters", {})
    shown = "" if not parameters else f"{float(np.ravel(parameters['softmax_scale'])[0]):.1f}"
    if "weights" in parameters:
        shown += f", {np.ravel(parameters['weights'])[0]:.2f}"
    parts = [shown, f"{given['log_score']:.3f}", f"{given['accuracy']:.3f}", f"{given['brier']:.3f}"]
    parts.append(f"{given['ece']:.3f}")
    if ends is None:
        parts += ["", ""]
    elif "failed" in ends:
        parts += ["failed", ""]
    else:
        parts += [f"{ends['log_score']:.3f}, {ends['accuracy']:.3f}", f"{ends['fates_found']} ({ends['states']})"]
    return " | ".join(parts)


def observed(table: dict[str, list[float]], i: int) -> str:
    """How often what was said came true."""
    count = table["n_cells"][i]
    return f"{table['observed'][i] / count:.2f} ({count})" if count else ""


def draw_reliability(found: dict[str, Any], file: Path) -> None:
    """Draw what was said against what happened, for the convention and the fit to fates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    truth = [name for name in TRUTH if name in found]
    figure, axes = plt.subplots(1, len(truth), figsize=(3 * len(truth), 3.2), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], truth, strict=True):
        ax.plot([0, 1], [0, 1], color="#bbbbbb")
        for contender, scores in found[name]["scores"].items():
            if "parameters" in scores:
                table = {key: np.array(values) for key, values in scores["given"]["reliability"].items()}
                some = table["n_cells"] > 0
                said, happened = (table[key][some] / table["n_cells"][some] for key in ("predicted", "observed"))
                ax.plot(said, happened, "o-", markersize=3, label=contender)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("probability of the fate")
    axes[0, 0].set_ylabel("part of the cells that have it")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
