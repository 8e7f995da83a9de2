"""Fitted kernels against the convention, on held-out cells; and how long fits take.

Usage: ``python -m benchmarks.fit [--only SECTION,…] [--json FILE] [--figure FILE]``

Each section runs in a process of its own, at float32 (``gradients`` at float64); the data is under ``$JAXVELO_SHARED``.
``--json`` keeps the sections that are not run.
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

SECTIONS = (
    "gradients",
    "pancreas_scalars",
    "pancreas_genes",
    "starts",
    "crossval",
    "more",
    "unlabelled",
    "noise",
    "shuffle",
    "outside",
    "wrong_labels",
    "by_simulation",
    "coverage",
    "clones",
    "example_times",
)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help="comma-separated sections")
    parser.add_argument("--json", type=Path, help="write all numbers here, and keep those of sections not run")
    parser.add_argument("--figure", type=Path, help="draw the weight of ever noisier velocities")
    arguments = parser.parse_args()
    found = records.known(arguments.json)
    for section in filter(None, arguments.only.split(",")):
        print(f"running {section}", file=sys.stderr)
        environment = {**os.environ, "JAX_ENABLE_X64": "1" if section == "gradients" else "0"}
        found[section] = run([sys.executable, "-m", "benchmarks.our_fits", section], env=environment)
        del found[section]["process"]  # of no use beside times of the steps
        records.keep(arguments.json, found)
    table = "\n".join(rows(found))
    print(table)
    if arguments.figure and "noise" in found:
        draw_noise(found["noise"], arguments.figure)


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the tables."""
    lines = [f"{os.cpu_count()} cores ({platform.machine()}), float32; held-out cells always."]
    if "crossval" in found:
        lines += ["", "Simulated bifurcation (1,000 cells, 157 genes), known fates, three repetitions of 5-fold:", ""]
        lines += crossval_rows(found["crossval"]["scores"], found.get("more", {}).get("scores", {}))
    lines += ["", "| question | answer |", "|---|---|"]
    for section, line in ANSWERS.items():
        if section in found:
            lines.append(line(found[section]))
    return lines


def crossval_rows(scores: dict[str, list], more: dict[str, list]) -> list[str]:
    """One line for each contender."""
    lines = [
        "| kernel | negative log-likelihood | against the convention, 95 % interval | accuracy | time gain per step |",
        "|---|---|---|---|---|",
    ]
    reference = np.array([fold["nll"] for fold in next(iter(scores.values()))])
    for name, folds in {**scores, **{f"{name} (5-fold once)": values for name, values in more.items()}}.items():
        nll, accuracy, gain = (np.array([fold[key] for fold in folds]) for key in ("nll", "accuracy", "time_gain"))
        relative = nll / reference[: len(nll)] - 1
        # Folds of one repetition share their training cells; the interval takes the folds as independent all the same.
        error = 1.96 * relative.std(ddof=1) / np.sqrt(len(relative))
        change = "" if nll is reference or not relative.any() else f"{relative.mean():+.1%} ± {error:.1%}"
        loss = f"{nll.mean():.3f} ± {nll.std(ddof=1):.3f}"
        lines.append(f"| {name} | {loss} | {change} | {accuracy.mean():.3f} | {gain.mean():.3f} |")
    return lines


def _crossval(result: dict[str, Any]) -> str:
    names = list(result["scores"])
    by_repetition = [
        np.array([fold["nll"] for fold in result["scores"][name]]).reshape(-1, 5).mean(axis=1)
        for name in (names[0], names[-1])
    ]
    changes = ", ".join(f"{new / old - 1:+.1%}" for old, new in zip(*by_repetition, strict=True))
    values, counts = np.unique(result["penalties"], return_counts=True)
    chosen = ", ".join(f"{value:g} ({count}×)" for value, count in zip(values, counts, strict=True))
    genes = ", ".join(f"{name} ({weight:.2f})" for name, weight in result["genes"][:6])
    return (
        f"| gene weights, by repetition; penalties chosen; genes of the largest weights (in medians) | {changes}; "
        f"{chosen}; {genes} |"
    )


def _unlabelled(result: dict[str, Any]) -> str:
    parts = [
        f"{name}: picked {r['picked']:.1f}, automatic {r['automatic']:.1f}, best by labels {r['best_by_labels']:.1f}; "
        f"loss by labels {r['loss_picked']:.4f}, {r['loss_automatic']:.4f}, {r['loss_best']:.4f}"
        for name, r in result.items()
        if isinstance(r, dict)
    ]
    return f"| scale picked without labels (velocities of unseen genes) | {'. '.join(parts)} |"


def _gradients(result: dict[str, Any]) -> str:
    worst = {name: max(errors.values()) for name, errors in result["errors"].items()}
    return (
        "| gradient against finite differences (float64), largest relative error | "
        + ", ".join(f"{name} {error:.0e}" for name, error in worst.items())
        + " |"
    )


def _starts(result: dict[str, Any]) -> str:
    ratios = ", ".join(f"{loss / result['grid'] - 1:+.2%}" for loss in result["fits"])
    alone = ", ".join(f"{loss / result['grid'] - 1:+.2%}" for loss in result["fits_of_that_start_alone"])
    return (
        f"| loss from three bad starts, over the best of an 8 × 6 grid ({result['grid']:.4f}) | {ratios}; "
        f"without the second start from equal weights {alone} |"
    )


def _noise(result: dict[str, Any]) -> str:
    levels = {float(level): np.mean(w) for level, w in result.items()}
    shown = ", ".join(f"{weight:.2f} at {level:g}" for level, weight in levels.items())
    return f"| fitted weight of velocities with noise, in standard deviations of each gene (scale held) | {shown} |"


def _shuffle(result: dict[str, Any]) -> str:
    shown = ", ".join(f"{s['validation']:.2f} ({s['guess']:.2f})" for s in result["scores"])
    before = np.mean([s["validation_convention"] for s in result["scores"]])
    return (
        "| shuffled labels, three times: held-out loss of fitted gene weights (of guessing by frequency: nothing is "
        f"gained below it); the convention's is {before:.2f} | {shown} |"
    )


def _outside(result: dict[str, Any]) -> str:
    parts = []
    for name, rows in result.items():
        before, after = (np.array(rows[key]) for key in ("convention", "fitted"))
        change = after - before
        parts.append(
            f"{name} ({len(before)} seeds): before the branching {before[:, 0].mean():.3f} → {after[:, 0].mean():.3f} "
            f"(at worst {change[:, 0].max():+.3f}), after it {before[:, 1].mean():.3f} → {after[:, 1].mean():.3f}; "
            f"held-out loss {before[:, 2].mean():.3f} → {after[:, 2].mean():.3f}"
        )
    return (
        "| scale and weights fitted to late cells: distance of all fates to the true probabilities (root mean square) "
        f"| {'. '.join(parts)} |"
    )


def _wrong_labels(result: dict[str, Any]) -> str:
    shown = ", ".join(
        f"{float(share):.0%} wrong: {np.mean(changes):+.3f} (at worst {np.max(changes):+.3f})"
        for share, changes in result.items()
    )
    return f"| wrong labels: change of the held-out loss on true ones, against the convention | {shown} |"


def _by_simulation(result: dict[str, Any]) -> str:
    parts = []
    for name, splits in result.items():
        loss, ece = (np.array([split[key] for split in splits]) for key in ("loss", "ece"))
        parts.append(f"{name} {', '.join(f'{x:.3f}' for x in loss)} (mean {loss.mean():.3f}, ECE {ece.mean():.3f})")
    return f"| whole simulations held out (dyngen, {len(splits)} splits): loss | {'; '.join(parts)} |"


def _clones(result: dict[str, Any]) -> str:
    parts = []
    for steps, folds in result.items():
        mean = {name: np.mean([fold[name] for fold in folds]) for name in folds[0]}
        better = sum(fold["fitted"] < fold["convention"] for fold in folds)
        parts.append(
            f"{steps} steps: {mean['convention']:.2f} → {mean['fitted']:.2f} (better in {better} of {len(folds)}); "
            f"of the cells of the next day {mean['convention, given the day']:.2f} → "
            f"{mean['fitted, given the day']:.2f}, a uniform draw of these {mean['uniform']:.2f}"
        )
    return f"| clones held out: loss of the later cells of the clone | {'. '.join(parts)} |"


ANSWERS = {
    "outside": _outside,
    "wrong_labels": _wrong_labels,
    "by_simulation": _by_simulation,
    "coverage": lambda r: (
        f"| 90 % intervals that hold the true scale, weight (20 draws of labels) | {r['softmax_scale']:.0%}, "
        f"{r['weights']:.0%} |"
    ),
    "clones": _clones,
    "example_times": lambda r: (
        "| the example of the notebook: first call, again | "
        + "; ".join(f"{name} {cold:.1f} s, {warm:.1f} s" for name, (cold, warm) in r.items())
        + " |"
    ),
    "gradients": _gradients,
    "starts": _starts,
    "crossval": _crossval,
    "unlabelled": _unlabelled,
    "noise": _noise,
    "shuffle": _shuffle,
    "pancreas_scalars": lambda r: (
        f"| pancreas, 200 steps on four known transitions, scale and weights | {r['cold']:.1f} s with compilation, "
        f"{r['warm']:.1f} s without |"
    ),
    "pancreas_genes": lambda r: (
        f"| the same with gene weights | {r['cold']:.1f} s with compilation, {r['warm']:.1f} s without; held out "
        f"{r['scores']['validation_convention']:.3f} → {r['scores']['validation']:.3f} |"
    ),
}


def draw_noise(result: dict[str, Any], file: Path) -> None:
    """Draw the fitted weight against the noise."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    levels = list(result)
    figure, ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    for seed in range(len(result[levels[0]])):
        ax.plot([float(level) for level in levels], [result[level][seed] for level in levels], "o-", color="#2f6fb0")
    ax.set_xlabel("noise added, in standard deviations of each gene")
    ax.set_ylabel("fitted weight of the velocity")
    ax.set_ylim(-0.03, 1.03)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
