"""Open a figure and finish it: bare axes, saving in one piece, showing."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#262626"  # text and arrows; softer than black on white


def pyplot() -> Any:
    """Import :mod:`matplotlib.pyplot`, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('Drawing needs matplotlib: pip install "jaxvelo[tutorial]".') from error
    return plt


class Canvas:
    """The axes that a picture is drawn on, and what happens to them at the end.

    Parameters
    ----------
    ax
        Axes of the caller, or :obj:`None` for a new figure.
    n_dims
        2, or 3 for axes in three dimensions.
    figsize, dpi
        Of a new figure; matplotlib's ``figure.dpi`` by default.
    save
        File to write, or :obj:`None`.
    show
        Whether to show the figure at the end; by default if it is neither saved nor drawn on the caller's axes.

    Raises
    ------
    ValueError
        If ``ax`` has another number of dimensions, or the ending of ``save`` names no known format.
    """

    def __init__(
        self,
        ax: "Axes | None",
        *,
        n_dims: int = 2,
        figsize: tuple[float, float] | None = None,
        dpi: float | None = None,
        save: str | os.PathLike | None = None,
        show: bool | None = None,
    ):
        plt = pyplot()
        self.path = None if save is None else checked_path(save)
        self.dpi = dpi
        self.own = ax is None
        self.show = (save is None and self.own) if show is None else show
        self.keep = show is False or not self.own  # the caller gets the axes and closes the figure
        if ax is None:
            figure = plt.figure(figsize=figsize or (6.0, 4.8), dpi=dpi, layout="constrained", facecolor="white")
            # In the order of depth, lines and marks would vanish among the cells.
            ax = figure.add_subplot(**({"projection": "3d", "computed_zorder": False} if n_dims == 3 else {}))
        elif (ax.name == "3d") != (n_dims == 3):
            found, needed = ("3d", "2-D") if ax.name == "3d" else (ax.name, "3d")
            raise ValueError(
                f"Expected `ax` to be {needed} axes for this embedding with {n_dims} dimensions, found {found!r} axes. "
                f'Create them with `plt.subplots(subplot_kw={{"projection": "3d"}})`, or choose another `basis`.'
            )
        self.ax: Any = ax

    def finish(self) -> "Axes | None":
        """Save, show, and give the axes back if the caller wants them."""
        plt = pyplot()
        if self.path is not None:
            save_figure(self.ax.figure.figure, self.path, self.dpi)
        if self.show:
            plt.show()
        if self.keep:
            return self.ax
        if not self.show:  # an interactive window stays open
            plt.close(self.ax.figure)
        return None


def checked_path(save: str | os.PathLike) -> Path:
    """Give the file to write, or raise if its ending names no known format."""
    from matplotlib.backend_bases import FigureCanvasBase

    path = Path(save)
    if not path.suffix:
        path = path.with_name(path.name + ".png")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"Expected `save` to end in one of {known}, found `{str(save)!r}`.")
    return path


def save_figure(figure: Any, path: Path, dpi: float | None) -> None:
    """Write a figure under a temporary name and rename it, so that no half-written file is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(temporary, dpi=dpi or 200, bbox_inches="tight", facecolor="white")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def finish_figure(figure: Any, save: str | os.PathLike | None, dpi: float | None, show: bool | None) -> Any:
    """Save and show a figure of several panels; give it back if it is not shown on purpose."""
    plt = pyplot()
    if save is not None:
        save_figure(figure, checked_path(save), dpi)
    if show if show is not None else save is None:
        plt.show()
        return None
    if show is False:
        return figure
    plt.close(figure)
    return None


def bare(ax: Any, title: str | None) -> None:
    """Leave nothing but the picture and its title: an embedding's axes have no units."""
    if ax.name == "3d":
        # In three dimensions the panes stay, without ticks: they tell how the picture is turned.
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_ticks([])
            axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
            axis.line.set_color("0.8")
        spans = [abs(high - low) for low, high in (ax.get_xlim(), ax.get_ylim(), ax.get_zlim())]
        ax.set_box_aspect(spans, zoom=1.15)  # equal units, and less of the empty room around
        for artist in ax.collections:  # which the corners of the box may reach into
            artist.set_clip_on(False)
    else:
        ax.set_aspect("equal")
        ax.set_axis_off()
    if title:
        ax.set_title(title, color=INK, fontsize=13)
