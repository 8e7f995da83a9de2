"""The scale that matplotlib gives to arrows."""

import numpy as np
from jaxtyping import Float


def automatic_quiver_scale(
    embedding: Float[np.ndarray, "cells dims"], arrows: Float[np.ndarray, "cells dims"]
) -> float:
    """Scale that matplotlib's quiver chooses for these arrows (their first two axes, as scVelo does).

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Projections need matplotlib: pip install "jaxvelo[tutorial]".') from error
    if not np.any(np.abs(arrows[np.isfinite(arrows)]) > 0):
        return 1.0
    embedding = np.where(np.isfinite(embedding), embedding, 0)
    largest = float(np.abs(embedding).max()) or 1.0
    figure = Figure()
    axes = figure.subplots()
    second = 1 if embedding.shape[1] > 1 else 0
    quiver = axes.quiver(
        embedding[:, 0] / largest,
        embedding[:, second] / largest,
        np.ma.masked_invalid(arrows[:, 0]) if np.isnan(arrows).any() else arrows[:, 0],
        np.ma.masked_invalid(arrows[:, second]) if np.isnan(arrows).any() else arrows[:, second],
        angles="xy",
        scale_units="xy",
    )
    axes.set_axis_off()  # ticks and labels take longer to draw than the arrows, and do not change their scale
    figure.draw_without_rendering()
    scale = quiver.scale
    return float(scale) / largest if scale else 1.0
