"""What a fit or a sweep found: history, scores on held-out cells, parameters and genes; and the heat map of a grid."""

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.arguments import check_integer

from ._checks import checked_cmap
from ._figure import INK, Canvas, Sheet, check_size, checked_path, finish_figure, new_figure, pyplot
from ._heat_map import draw_heat_map
from ._looks import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONVENTION, FITTED, HELD_OUT = "#a0a0a0", "#2f6fb0", "#d1662b"
MOST_HEIGHT = 40.0  # inches


@picture()
def fit(
    result: Any,
    *,
    n_genes: int = 12,
    figsize: tuple[float, float] | None = None,
    dpi: float | None = None,
    save: str | os.PathLike | None = None,
    show: bool | None = None,
) -> "Figure | None":
    """Draw what :func:`jaxvelo.tl.fit_kernel` found.

    Panels: the losses step by step, dashed those of the convention; the loss on the held-out cells of convention and
    fitted kernel, with the standard error of their difference; the fitted parameters with their standard errors, grey
    those of the convention; the genes of the largest weights, and the inner validation that chose their penalty.

    Parameters
    ----------
    result
        A :class:`jaxvelo.tl.FitResult`.
    n_genes
        Number of genes to show.
    figsize, dpi
        Size of the figure in inches, and its resolution.
    save
        File to write.
    show
        Whether to show the figure; by default if it is not saved.

    Returns
    -------
    The figure if ``show=False``.

    Raises
    ------
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> figure = jv.pl.fit(result, show=False)
    >>> type(figure).__name__
    'Figure'
    """
    check_integer("n_genes", n_genes, 1)
    check_size(figsize, dpi)
    path = checked_path(save)
    panels = [_history, _scores, *_parameter_panels(result)]
    if "gene_weights" in result.parameters:
        panels.append(lambda ax, result: _genes(ax, result, n_genes))
    for found, chosen, what in (
        (result.priors, result.prior, "prior of scales and weights"),
        (result.penalties, result.penalty, "penalty of gene weights"),
    ):
        if found:
            panels.append(partial(_choice, found=found, chosen=chosen, what=what))
    # Names of levels and of genes stand one below the other.
    n_rows = max(
        [len(names) for names in result.levels.values()] + [n_genes if "gene_weights" in result.parameters else 0]
    )
    size = figsize or (3.3 * len(panels), min(MOST_HEIGHT, max(3.2, 1.2 + 0.17 * n_rows)))
    figure = new_figure(size, dpi)
    for panel, ax in zip(panels, np.atleast_1d(figure.subplots(1, len(panels))), strict=True):
        panel(ax, result)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=9)
    return finish_figure(figure, path, dpi, show)


@picture()
def sweep(
    result: Any,
    *,
    cmap: Any = "viridis_r",
    sheet: Sheet,
) -> "Axes | None":
    """Draw the losses of :func:`jaxvelo.tl.sweep_kernel` as a heat map; the smallest is framed.

    Parameters
    ----------
    result
        A :class:`jaxvelo.tl.SweepResult`.
    cmap
        Colour map.
    sheet
        ``ax``, axes to draw on, or None for a new figure; ``figsize`` and ``dpi``, its size in inches and resolution;
        ``save``, a file to write; ``show``, whether to show the figure: by default if it is neither saved nor drawn on
        the caller's axes.

    Returns
    -------
    The axes if ``show=False`` or ``ax`` is given.

    Raises
    ------
    TypeError
        If an argument does not exist.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> result = jv.tl.sweep_kernel(kernel, jv.objectives.TimeGain(adata, "true_time"), softmax_scales=[1.0, 4.0])
    >>> axes = jv.pl.sweep(result, show=False)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('weight of the first kernel', 'softmax scale')
    """
    cmap = checked_cmap("cmap", cmap)
    n_scales, n_weights = result.losses.shape
    canvas = Canvas(sheet.of_size(1.6 + 0.75 * n_weights, 1.4 + 0.42 * n_scales))
    axes = canvas.ax
    finite = result.losses[np.isfinite(result.losses)]
    # A few points far from the best would take all the colours: those far beyond the median share the last.
    low, middle = (float(np.min(finite)), float(np.median(finite))) if len(finite) else (0.0, 1.0)
    high = low + 2 * (middle - low) if middle > low else None
    largest = np.abs(finite).max(initial=0)
    form = ".3f" if largest < 100 else ".1f" if largest < 1000 else ".0f" if largest < 1e5 else ".2g"
    image = draw_heat_map(axes, result.losses, cmap, limits=(low, high), form=form, fontsize=8)
    axes.set_yticks(range(n_scales), [f"{s:.3g}" if s < 1000 else f"{s:.0f}" for s in result.softmax_scales])
    axes.set_ylabel("softmax scale", color=INK)
    if np.array_equal(result.weights, [1]):  # a kernel alone
        axes.set_xticks([])
    else:
        axes.set_xticks(range(n_weights), [f"{w:.3g}" for w in result.weights])
        axes.set_xlabel("weight of the first kernel", color=INK)
    if np.isfinite(result.losses).any():
        i, j = np.unravel_index(np.nanargmin(result.losses), result.losses.shape)
        axes.add_patch(pyplot().Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=HELD_OUT, linewidth=2.5))
    axes.figure.colorbar(image, ax=axes, label="loss", extend="neither" if high is None else "max")
    return canvas.finish()


def _history(ax: "Axes", result: Any) -> None:
    steps = np.arange(len(result.history["training"]))
    lines = [("training", FITTED, "training cells")]
    if result.is_validated:
        lines.append(("validation", HELD_OUT, "held-out cells"))
    for name, color, label in lines:
        losses = result.history[name]
        for start in range(losses.shape[1]):
            best = start == result.start
            ax.plot(
                steps, losses[:, start], color=color, alpha=1 if best else 0.35, linewidth=1.8 if best else 0.9,
                label=label if best else None,
            )  # fmt: skip
        ax.axhline(result.scores[f"{name}_convention"], color=color, linestyle="--", linewidth=1)
    ax.axvline(result.step, color=INK, linewidth=0.6, linestyle=":")
    ax.set_xlabel("step", color=INK)
    ax.set_ylabel("loss", color=INK)
    ax.set_title(result.objective if len(result.objective) < 30 else "objective", color=INK, fontsize=11)
    ax.legend(frameon=False, fontsize=8, title="dashed: convention", title_fontsize=8)


def _scores(ax: "Axes", result: Any) -> None:
    if not result.is_validated:
        ax.text(
            0.5, 0.5, "no cells were held out:\nnothing is said about whether\nthe fitted kernel is better",
            ha="center", va="center", transform=ax.transAxes, color=INK, fontsize=9,
        )  # fmt: skip
        ax.set_axis_off()
        return
    scores = result.scores
    before, gain, error = scores["validation_convention"], scores["validation_gain"], scores["validation_gain_se"]
    _from_convention(ax, before, scores["validation"], error)
    ax.set_ylabel(f"loss on {int(result.validation.sum())} held-out cells", color=INK)
    relative = f" ({gain / abs(before):.0%})" if before else ""
    ax.set_title(f"gain {gain:.3g} ± {error:.2g}{relative}", color=INK, fontsize=11)


def _from_convention(ax: "Axes", before: float, after: float, error: float) -> None:
    """Two points, the second with two standard errors."""
    ax.plot([0, 1], [before, after], color=INK, linewidth=0.8, zorder=2)
    ax.scatter([0, 1], [before, after], color=[CONVENTION, FITTED], s=70, zorder=3)
    if np.isfinite(error):
        ax.errorbar([1], [after], yerr=[2 * error], color=FITTED, capsize=4, linewidth=1.4)
    ax.set_xticks([0, 1], ["convention", "fitted"])
    ax.set_xlim(-0.5, 1.5)


def _parameter_panels(result: Any) -> list[Any]:
    names = [name for name in result.parameters if not name.startswith("gene_weights")]
    return [lambda ax, result, name=name: _parameter(ax, result, name) for name in names]


def _parameter(ax: "Axes", result: Any, name: str) -> None:
    is_weights = name.startswith("weights")
    title = name.replace("_", " ").replace("weights", "weight of the first kernel")
    value, before, error = result.parameters[name], result.convention[name], result.standard_errors.get(name)
    error = np.full(value.shape, np.nan) if error is None else error
    if is_weights:
        value, before, error = value[..., 0], before[..., 0], error[..., 0]
    ax.set_title(title, color=INK, fontsize=11)
    if value.ndim == 0:
        _from_convention(ax, float(before), float(value), float(error))
        # From zero: a close-up would make much of a small difference.
        ax.set_ylim(*((-0.05, 1.05) if is_weights else (0, None)))
        return
    if len(value) == len(result.training):
        # Scales are fitted on a logarithmic axis, and may spread over decades.
        is_wide = not is_weights and value.max() > 10 * value.min()
        ax.hist(value, bins=list(np.geomspace(value.min(), value.max(), 41)) if is_wide else 40, color=FITTED)
        ax.set_xscale("log" if is_wide else "linear")
        ax.axvline(float(before[0]), color=CONVENTION, linestyle="--")
        ax.set_ylabel("cells", color=INK)
        return
    places = np.arange(len(value))[::-1]
    ax.scatter(before, places, color=CONVENTION, s=40, label="convention", zorder=2)
    label = "fitted, ± 2 se" if np.isfinite(error).any() else "fitted"
    ax.errorbar(value, places, xerr=2 * np.nan_to_num(error), fmt="o", color=FITTED, capsize=3, label=label, zorder=3)
    ax.set_yticks(places, result.levels["weights" if is_weights else "softmax_scale"])
    ax.set_ylim(-0.7, len(value) - 0.3)
    if is_weights:
        ax.set_xlim(-0.05, 1.05)
    # Below the axes: within, it would hide levels.
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, columnspacing=1)


def _genes(ax: "Axes", result: Any, n_genes: int) -> None:
    top = result.top_genes(n_genes)
    places = np.arange(len(top))[::-1]
    ax.barh(places, [weight for _, weight in top], color=FITTED, height=0.7)
    ax.axvline(1, color=CONVENTION, linestyle="--", linewidth=1)
    ax.set_yticks(places, [gene for gene, _ in top])
    ax.set_xlabel("weight, in medians of all genes", color=INK)
    ax.set_title("genes that carry the fit", color=INK, fontsize=11)


def _choice(ax: "Axes", result: Any, found: dict[str, np.ndarray], chosen: float, what: str) -> None:
    candidates, loss = found["candidates"], found["loss"]
    finite = np.isfinite(loss)
    ax.errorbar(candidates[finite], loss[finite], yerr=found["loss_se"][finite], fmt="o-", color=HELD_OUT, capsize=3)
    ax.axvline(chosen, color=INK, linewidth=0.6, linestyle=":")
    ax.set_xscale("log")
    ax.set_xlabel(what, color=INK)
    ax.set_ylabel("loss, inner validation", color=INK)
    ax.set_title(f"choice of the {what.split()[0]}", color=INK, fontsize=11)
