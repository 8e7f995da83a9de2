"""Clusters as the nodes of a graph: lines as broad as they are connected, nodes as discs or as pies."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ._figure import INK, text_size
from ._legend import part_names

BROADEST = 6.0  # points, of a line between clusters of connectivity one
REST = "#d3d3d3"  # of a pie: what is not drawn of it


@dataclasses.dataclass(frozen=True)
class ClusterGraph:
    """Where clusters lie, and how closely they are connected.

    Attributes
    ----------
    names
        Of the clusters.
    places
        Their nodes.
    sizes
        Number of their cells.
    connectivities
        From 0 to 1, symmetric.
    """

    names: list[str]
    places: Float[np.ndarray, "clusters 2"]
    sizes: Int[np.ndarray, " clusters"]
    connectivities: Float[np.ndarray, "clusters clusters"]

    def radii(self) -> Float[np.ndarray, " clusters"]:
        """Give the radius of each node: the area grows as the root of the number of cells."""
        extent = float(np.ptp(self.places, axis=0).max())
        return 0.04 * (extent or 1.0) * (self.sizes / self.sizes.mean()) ** 0.25

    def draw(
        self,
        ax: Any,
        colors: Sequence[Any] | np.ndarray,
        threshold: float,
        shares: Float[np.ndarray, "clusters parts"] | None = None,
    ) -> None:
        """Draw lines, nodes and names.

        Parameters
        ----------
        ax
            Axes.
        colors
            Of the nodes; with shares, of the parts.
        threshold
            Connectivity below which there is no line.
        shares
            Parts of each node, which is a pie then.
        """
        from matplotlib.collections import LineCollection
        from matplotlib.patches import Circle, Wedge
        from matplotlib.patheffects import withStroke

        radii = self.radii()
        pairs = [
            (a, b)
            for a, b in zip(*np.triu_indices(len(self.names), 1), strict=True)
            if self.connectivities[a, b] >= max(threshold, 1e-12)
        ]
        widths = [BROADEST * self.connectivities[pair] for pair in pairs]
        lines = LineCollection(
            [self.places[[a, b]] for a, b in pairs], linewidths=widths, colors="0.35", alpha=0.8, zorder=2
        )
        lines.set_gid("connectivities")
        ax.add_collection(lines)
        for k, (place, radius) in enumerate(zip(self.places, radii, strict=True)):
            if shares is not None:
                ends = 90 - 360 * np.concatenate([[0.0], np.cumsum(shares[k])])  # clockwise from above
                for start, end, color in zip(ends[:-1], ends[1:], colors, strict=True):
                    if start - end > 1e-6:
                        ax.add_patch(Wedge(place, radius, end, start, facecolor=color, linewidth=0, zorder=3))
                edge = Circle(place, radius, fill=False, edgecolor="white", linewidth=0.8, zorder=3.1)
            else:
                edge = Circle(place, radius, facecolor=colors[k], edgecolor="white", linewidth=0.8, zorder=3)
            ax.add_patch(edge)
        margin = 2.2 * radii.max()
        low, high = self.places.min(axis=0) - margin, self.places.max(axis=0) + margin
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        if ax.collections[0] is lines:  # there are no cells behind
            left, right, bottom, top = low[0], high[0], low[1], high[1]
        ax.set(xlim=(min(left, low[0]), max(right, high[0])), ylim=(min(bottom, low[1]), max(top, high[1])))
        ax.set_aspect("equal")
        size = text_size(10 if len(self.names) <= 25 else 7)
        halo = [withStroke(linewidth=0.3 * size, foreground="white")]
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "fontsize": size, "zorder": 10}
        texts = [
            ax.text(*place, name, path_effects=halo, **style)
            for place, name in zip(self.places, self.names, strict=True)
        ]
        figure = ax.figure.figure
        figure.draw_without_rendering()  # how large nodes are in points is known only once the axes have their place
        in_points = 72 / figure.dpi * np.diff(ax.transData.transform([(0.0, 0.0), (radii.max(), 0.0)])[:, 0])[0]
        part_names(ax, texts, self.places, np.argsort(-self.sizes, kind="stable"), above=float(in_points + 0.6 * size))
