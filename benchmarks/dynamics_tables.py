"""Tables of the dynamical model's benchmark, and whether its aims are reached."""

from __future__ import annotations

import operator
import os
import platform
from collections.abc import Iterable
from textwrap import shorten
from typing import Any

import numpy as np

from benchmarks.known_directions import flat
from benchmarks.timing import text

NAMES = {
    "jaxvelo": "jaxvelo",
    "scvelo": "scVelo",
    "scvelo_rs": "scvelo-rs",
    "scvelo_stored": "scVelo",
    "jaxvelo_curve": "jaxvelo, curve alone",
    "jaxvelo_stochastic": "jaxvelo, stochastic",
    "jaxvelo_deterministic": "jaxvelo, deterministic",
    "scvelo_stochastic": "scVelo, stochastic",
    "cellrank": "CellRank",
    "(constant)": "(one value for all genes)",
    "(shuffled)": "(true values of other cells)",
}
SCORES = {
    "ratio": "γ/β",
    "scaling": "scaling",
    "switch": "β × switch",
    "time": "time",
    "cosine": "velocity, cosine",
    "velocity": "velocity, by gene",
}
# What the default is measured by on simulated networks: scVelo's curve, and the steady states.
BEST_OF = ("scvelo", "scvelo_stochastic", "jaxvelo_stochastic", "jaxvelo_deterministic")
GAINS = {"cosine": "cosine", "by_gene": "by gene", "latent_time": "latent time", "pseudotime": "pseudotime"}
GIB = 1 << 30
SIGNS = {"≥": operator.ge, "≤": operator.le, ">": operator.gt}


def rows(found: dict[str, Any]) -> list[str]:
    """Lines of the tables of all groups that are there."""
    lines = [f"{os.cpu_count()} cores ({platform.machine()}), float32; pancreas: 3,696 cells × 613 genes."]
    if "time" in found:
        lines += ["", *time_rows(found["time"])]
    if "growth" in found or "large" in found:
        lines += ["", *growth_rows(found.get("growth", {}), found.get("large"))]
    for group, table in (
        ("fit", fit_rows),
        ("truth", truth_rows),
        ("networks", network_rows),
        ("biology", biology_rows),
        ("rates", rates_rows),
        ("accepted", accepted_rows),
    ):
        if group in found:
            lines += ["", *table(found[group])]
    return lines


def time_rows(time: dict[str, Any]) -> list[str]:
    """Seconds of all, and how many times as long the peers take."""
    peers = [name for name in ("scvelo", "scvelo_rs") if name in time]
    cells = [f"{NAMES[name]} {time[name]['version']} | ratio" for name in peers]
    lines = [_row("pancreas", "jaxvelo", *cells), _rule(2 + 2 * len(peers))]
    warm = time["warm"]
    for label, mine, key in (
        ("`recover_dynamics`, all genes, warm", warm["times"]["median"], "seconds"),
        ("the same, first call of a process: with compilation", time["jaxvelo"]["seconds"], "seconds"),
        ("cold process: import, read, fit, velocities, write", time["jaxvelo"]["process"], "process"),
    ):
        others = [f"{text(time[name][key])} | {_times(time[name][key] / mine)}" for name in peers]
        lines.append(_row(label, text(mine), *others))
    count = warm["programs"]
    return [
        *lines,
        "",
        f"Programs compiled for a second data set: {count['similar']} with 1 % fewer cells and genes, "
        f"{count['other']} with 40 % fewer cells and 30 % fewer genes.",
    ]


def growth_rows(growth: dict[str, Any], large: dict[str, Any] | None) -> list[str]:
    """Seconds and memory by size, and the exponents with which they grow."""
    lines = [
        _row("made cells × genes", "first call", "second call", "input", "results", "peak memory above the input"),
        _rule(6),
    ]
    sizes = [(int(n), 300, size) for n, size in growth.get("cells", {}).items()]
    sizes += [(10_000, int(n), size) for n, size in growth.get("genes", {}).items()]
    if large:
        sizes.append((100_000, 2000, large))
    for n_cells, n_genes, size in sizes:
        memory = [gibibytes(size[key]) for key in ("inputs", "results", "above_input")]
        lines.append(_row(f"{n_cells:,} × {n_genes:,}", text(size["first"]), text(size["second"]), *memory))
    if growth:
        shown = [
            f"with {along} by {exponent(growth[along], 'second'):.2f} and {exponent(growth[along], 'above_input'):.2f}"
            for along in ("cells", "genes")
        ]
        lines += ["", f"Time (second call) and memory grow {', '.join(shown)} (exponents of a power law)."]
    return lines


def gibibytes(size: float) -> str:
    """Format a number of bytes."""
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"


def exponent(sizes: dict[str, dict[str, float]], key: str) -> float:
    """Slope of the logarithm over the logarithm of the size."""
    slope, _ = np.polyfit(np.log([float(n) for n in sizes]), np.log([size[key] for size in sizes.values()]), 1)
    return float(slope)


def fit_rows(fit: dict[str, Any]) -> list[str]:
    """Distance of cells and curves."""
    lines = [
        _row(
            "pancreas, squared distance of cells to the curve",
            "median of genes",
            "relative to scVelo: median (5 %, 95 %)",
            "genes not worse",
        ),
        _rule(4),
        _row("scVelo", f"{fit['scvelo_stored']['median']:.3f}", "", ""),
    ]
    for name in ("scvelo_rs", "jaxvelo"):
        if name in fit:
            low, high = (fit[name]["quantiles"][q] for q in ("0.05", "0.95"))
            ratio = f"{fit[name]['median_ratio']:.2f} ({low:.2f}, {high:.2f})"
            share = f"{fit[name]['not_worse']:.1%}"
            lines.append(_row(NAMES[name], f"{fit[name]['median']:.3f}", ratio, share))
    return lines


def truth_rows(truth: dict[str, Any]) -> list[str]:
    """Mean and standard deviation over seeds."""
    lines = [
        _row("simulated", "method", "genes", *SCORES.values()),
        _rule(3 + len(SCORES)),
    ]
    seeds = list(truth.values())
    for scenario in seeds[0]:
        methods = [name for name in NAMES if name in seeds[0][scenario]]
        for method in methods:
            scores = [seed[scenario][method] for seed in seeds]
            genes = [score["fitted"] for score in scores if score.get("fitted") is not None]
            shown = [spread(score.get(name) for score in scores) for name in SCORES]
            lines.append(_row(scenario, NAMES[method], f"{np.mean(genes):.0f}" if genes else "", *shown))
    return [
        *lines,
        "",
        f"1,500 cells × 200 genes, {len(seeds)} seeds (mean ± standard deviation), on the genes that all methods have "
        "fitted. γ/β (`fit_ratio` where there is one), scaling and β × switch: median absolute error of the "
        "logarithm, less is better; time: Spearman, velocity: cosine over genes, and Pearson correlation over cells by "
        "gene, more is better.",
    ]


def network_rows(networks: dict[str, Any]) -> list[str]:
    """One line for each data set and method."""
    heads = ("cosine", "by gene", "γ/β: error (bias)", "converged", "90 % intervals: hold (width)", "latent time")
    lines = [_row("simulated by a network, or by others", "method", *heads, "pseudotime"), _rule(3 + len(heads))]

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    def pair(value: float | None, other: float | None, sign: str = "") -> str:
        return "" if value is None or other is None else f"{value:.2f} ({other:{sign}.2f})"

    for name, methods in networks.items():
        for method, found in methods.items():
            lines.append(
                _row(
                    name,
                    NAMES[method],
                    shown(found["cosine"]),
                    shown(found["by_gene"]),
                    pair(found["ratio"], found["ratio_bias"], "+"),
                    shown(found["converged"]),
                    pair(found["coverage"], found["width"]),
                    shown(found["latent_time"]),
                    shown(found["pseudotime"]),
                )
            )
    return [
        *lines,
        "",
        "Cosine over genes in units of their deviation, and Pearson correlation over cells by gene; γ/β: median error "
        "of the logarithm (stochastic, deterministic: of the slope of the steady states); latent time and pseudotime: "
        "Spearman correlation with the true time.",
    ]


def spread(values: Iterable[float | None]) -> str:
    """Mean ± standard deviation of what is there."""
    known = np.array([value for value in values if value is not None])
    if len(known) == 0:
        return ""
    return f"{known.mean():.2f} ± {known.std(ddof=1):.2f}" if len(known) > 1 else f"{known.mean():.2f}"


def biology_rows(biology: dict[str, Any]) -> list[str]:
    """Cross-boundary correctness of each transition, and the flow between the earliest clusters."""
    kernels = ("0.8/0.2", "velocity alone")
    heads = [head for kernel in kernels for head in (f"jaxvelo, {kernel}", f"scVelo, {kernel}", "difference")]
    lines = [_row("pancreas, cross-boundary correctness", *heads), _rule(7)]
    ours, theirs = ({kernel: flat(biology[method][kernel]) for kernel in kernels} for method in ("jaxvelo", "scvelo"))
    errors = biology["standard_errors"]
    labels = {
        "backward": "probability of Ngn3 low EP at the boundary to move back to Ductal",
        "forward": "of Ductal at the boundary to move on to Ngn3 low EP",
        "net_backward": "difference: net flow backwards",
        "cycling_backward": "probability of cycling Ductal to move to Ductal out of the cycle",
    }
    for name in ours[kernels[0]]:
        cells = []
        for kernel in kernels:
            mine, other = ours[kernel][name], theirs[kernel][name]
            cells += [f"{mine:.3f}", f"{other:.3f}", f"{mine - other:+.3f} ± {errors[kernel][name]:.3f}"]
        lines.append(_row(labels.get(name, name), *cells))
    return [*lines, "", "± is the standard error of the difference over genes (the same random halves for both)."]


def rates_rows(rates: dict[str, Any]) -> list[str]:
    """What tuning rates on known fates gains on held-out cells."""
    before, after = (np.mean([fold[key] for fold in rates["folds"]]) for key in ("before", "after"))
    largest = float(np.exp(max(fold["largest"] for fold in rates["folds"])))
    penalties = ", ".join(sorted({f"{fold['penalty']:g}" for fold in rates["folds"]}))
    return [
        f"Simulated bifurcation, rates of transcription and degradation of {rates['tuned']} of {rates['genes']} genes "
        "tuned by gradient descent on known fates (5-fold): held-out negative log-likelihood "
        f"{before:.3f} → {after:.3f} ({rates['mean']:+.1%} ± {rates['half_width']:.1%}, 95 % interval); penalty chosen "
        f"{penalties}, largest factor of a rate {largest:.1f}."
    ]


def accepted_rows(accepted: dict[str, Any]) -> list[str]:
    """What each peer accepts of our results, and how far its own are from them."""
    lines = [
        _row("pancreas, going on from jaxvelo's results", "accepted (largest difference to ours)", "not accepted"),
        _rule(3),
    ]
    for name, peer in peers_of(accepted).items():
        works, fails = [], []
        for call, outcome in peer["calls"].items():
            if reason := outcome.get("error") or outcome.get("untried"):
                fails.append(f"{call} ({'not tried' if 'untried' in outcome else 'error'}: {shorten(reason, 100)})")
            else:
                difference = f" ({outcome['difference']:.0e})".replace("e-0", "e-") if "difference" in outcome else ""
                works.append(f"{call}{difference}")
        lines.append(_row(f"{NAMES[name]} {peer['version']}", ", ".join(works), ", ".join(fails) or "nothing"))
    return [
        *lines,
        "",
        "Our transition matrices are in double precision. scVelo takes the root cells from the file.",
    ]


def peers_of(accepted: dict[str, Any]) -> dict[str, Any]:
    """Peers that were tried, without the time of their process."""
    return {name: accepted[name] for name in ("cellrank", "scvelo")}


def verdicts(found: dict[str, Any]) -> list[str]:
    """One line for each aim: reached or not, and by how much."""
    lines = []

    def state(label: str, value: float, sign: str, aim: float) -> None:
        reached = SIGNS[sign](value, aim)
        lines.append(f"{'reached' if reached else 'MISSED '}  {label}: {value:.4g} (aim {sign} {aim:g})")

    if "time" in found:
        warm, cold = found["time"]["warm"]["times"]["median"], found["time"]["jaxvelo"]
        for peer, aim in (("scvelo", 10), ("scvelo_rs", 3)):
            theirs = found["time"][peer]
            state(f"times as fast as {NAMES[peer]}, warm", theirs["seconds"] / warm, "≥", aim)
            state(f"times as fast as {NAMES[peer]}, first call", theirs["seconds"] / cold["seconds"], "≥", aim)
            state(f"times as fast as {NAMES[peer]}, process", theirs["process"] / cold["process"], "≥", aim)
    if "fit" in found:
        ours = found["fit"]["jaxvelo"]
        state("share of genes not worse than scVelo's", ours["not_worse"], "≥", 0.98)
        state("median ratio of distances", ours["median_ratio"], "≤", 0.7)
    if "large" in found:
        state("GiB of 100,000 × 2,000 in all", found["large"]["peak"] / GIB, "≤", 24)
    if "biology" in found:
        for kernel in ("0.8/0.2", "velocity alone"):
            ours, theirs = (found["biology"][method][kernel] for method in ("jaxvelo", "scvelo"))
            changes = [ours["correctness"][name] - theirs["correctness"][name] for name in ours["correctness"]]
            state(f"smallest gain in correctness, {kernel}", min(changes), "≥", -0.01)
            state(f"mean gain in correctness, {kernel}", float(np.mean(changes)), ">", 0)
            for name, flow in (("net_backward", "net backward flow"), ("cycling_backward", "flow out of the cycle")):
                gain, error = ours[name] - theirs[name], found["biology"]["standard_errors"][kernel][name]
                state(f"gain of {flow}, {kernel}, in standard errors", gain / error, "≤", 0)
    if "networks" in found:
        for label, value, sign, aim in network_verdicts(found["networks"]):
            state(label, value, sign, aim)
    if "accepted" in found:
        for name, peer in peers_of(found["accepted"]).items():
            refused = sum("error" in outcome for outcome in peer["calls"].values())
            state(f"calls of {NAMES[name]} that our results fail", refused, "≤", 0)
        calls = found["accepted"]["cellrank"]["calls"].values()
        differences = [outcome["difference"] for outcome in calls if "difference" in outcome]
        state("largest difference to CellRank's transition matrices", max(differences, default=np.inf), "≤", 1e-10)
    return lines


def network_verdicts(networks: dict[str, Any]) -> list[tuple[str, float, str, float]]:
    """Aims on networks and files of others, each as label, value, sign and aim.

    Velocities and times are no worse than the better of scVelo's curve and the steady states (to 0.01) on any data, and
    velocities better by a tenth in the mean; intervals hold the truth on three quarters of the genes that are called
    converged, which are half of all.
    """
    aims = []
    for key, label in GAINS.items():
        gains, ratios = {}, []
        for name, methods in networks.items():
            others = [methods[other][key] for other in BEST_OF if methods.get(other, {}).get(key) is not None]
            ours = methods.get("jaxvelo", {}).get(key)
            if others and ours is not None:
                gains[name] = ours - max(others)
                ratios.append(ours / max(others))
        if gains:
            worst = min(gains, key=gains.__getitem__)
            aims.append((f"smallest gain, {label} (on {worst})", gains[worst], "≥", -0.01))
            if key in ("cosine", "by_gene"):
                aims.append((f"mean ratio to the best of the others, {label}", float(np.mean(ratios)), "≥", 1.1))
    for key, label, aim in (("coverage", "coverage of 90 % intervals", 0.75), ("converged", "share converged", 0.5)):
        found = {name: methods.get("jaxvelo", {}).get(key) for name, methods in networks.items()}
        known = {name: value for name, value in found.items() if value is not None}
        if known:
            worst = min(known, key=known.__getitem__)
            aims.append((f"smallest {label} (on {worst})", known[worst], "≥", aim))
    return aims


def _times(ratio: float) -> str:
    return f"{ratio:,.{0 if ratio > 10 else 1}f}×"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(n_columns: int) -> str:
    return "|" + "---|" * n_columns
