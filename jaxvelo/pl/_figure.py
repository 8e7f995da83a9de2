"""Open a figure and finish it: size and background, saving in one piece, showing."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.configuration import is_positive, is_size, settings

if TYPE_CHECKING:
    from types import TracebackType

    from matplotlib.axes import Axes

INK = "#262626"  # text and arrows; softer than black on white


def pyplot() -> Any:
    """Import :mod:`matplotlib.pyplot`, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('Drawing needs matplotlib: pip install "jaxvelo[tutorial]".') from error
    return plt


def text_size(size: float) -> float:
    """Give a size of text in points, in proportion to ``settings.set_figure_params(fontsize=...)``."""
    return size * settings.figure_params.fontsize / 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a picture is drawn on, and what becomes of it; explained in :func:`jaxvelo.pl.scatter`."""

    figsize: tuple[float, float] | None = None
    dpi: float | None = None
    ax: "Axes | None" = None
    save: str | os.PathLike | None = None
    show: bool | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before there is a figure."""
        check_size(self.figsize, self.dpi)
        checked_path(self.save)

    def of_size(self, width: float, height: float) -> "Sheet":
        """Give the sheet with a size in inches where the user gave none."""
        return self if self.figsize else dataclasses.replace(self, figsize=(width, height))


class Canvas:
    """The axes that a picture is drawn on, and what happens to them at the end.

    As a context, it closes a figure of its own that could not be finished.

    Parameters
    ----------
    sheet
        The caller's axes, or None for a new figure; its size and resolution, by default ``default_size`` for each panel
        and matplotlib's ``figure.dpi``; the file to write; and whether to show the figure at the end, by default if it
        is neither saved nor drawn on the caller's axes.
    n_dims
        2, or 3 for axes in three dimensions.
    n_panels, ncols
        Number of axes, and how many of them stand in a row.
    default_size
        Size of a panel where the user gave none.
    room
        Width in inches that each panel needs for a legend beside it, added where the user gave no size.

    Raises
    ------
    TypeError
        If the axes are something else.
    ValueError
        If the axes have another number of dimensions.
    """

    def __init__(
        self,
        sheet: Sheet,
        *,
        n_dims: int = 2,
        n_panels: int = 1,
        ncols: int = 4,
        default_size: tuple[float, float] | None = None,
        room: float = 0.0,
    ):
        ax, figsize, show = sheet.ax, sheet.figsize, sheet.show
        self.path = checked_path(sheet.save)
        self.dpi = sheet.dpi
        self.own = ax is None
        self.show = (self.path is None and self.own) if show is None else bool(show)
        self.keep = show is False or not self.own  # the caller gets the axes and closes the figure
        if ax is not None:
            check_axes(ax, n_dims)
            self.axes: list[Any] = [ax]
            return
        n_columns = min(ncols, n_panels)
        n_rows = -(-n_panels // n_columns)
        if figsize is None:
            width, height = default_size or (settings.figure_params.figsize or (6.0, 4.8))
            figsize = (n_columns * (width + room), n_rows * height)
        figure = new_figure(figsize, sheet.dpi)
        # In the order of depth, lines and marks would vanish among the cells.
        style: dict[str, Any] = {"projection": "3d", "computed_zorder": False} if n_dims == 3 else {}
        self.axes = [figure.add_subplot(n_rows, n_columns, i + 1, **style) for i in range(n_panels)]

    @property
    def ax(self) -> Any:
        """The first of the axes."""
        return self.axes[0]

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if error is not None and self.own:
            pyplot().close(self.ax.figure)

    def finish(self, listed: bool = False) -> Any:
        """Save, show, and give the (first) axes back if the caller wants them; all of them in a list if ``listed``."""
        plt = pyplot()
        if self.path is not None:
            save_figure(self.ax.figure.figure, self.path, self.dpi)
        if self.show:
            plt.show()
        if self.keep:
            return self.axes if listed else self.ax
        if not self.show:  # an interactive window stays open
            plt.close(self.ax.figure)
        return None


def new_figure(figsize: tuple[float, float], dpi: float | None) -> Any:
    """Open a figure whose parts make room for each other."""
    params = settings.figure_params
    return pyplot().figure(
        figsize=figsize, dpi=params.dpi if dpi is None else dpi, layout="constrained", facecolor=params.facecolor
    )


def check_size(figsize: Any, dpi: Any) -> None:
    """Raise a ValueError unless width, height and resolution are positive numbers, or :obj:`None`."""
    if figsize is not None and not is_size(figsize):
        raise ValueError(f"Expected `figsize` to be width and height in inches, such as (6, 4.8), found `{figsize!r}`.")
    if dpi is not None and not is_positive(dpi):
        raise ValueError(f"Expected `dpi` to be a positive number, found `{dpi!r}`.")


def check_axes(ax: Any, n_dims: int = 2) -> None:
    """Raise unless ``ax`` is one of matplotlib's axes, with the right number of dimensions."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        several = "Pass one of them, and draw the pictures one by one." if np.size(ax) > 1 else ""
        raise TypeError(
            f"Expected `ax` to be the axes to draw on, as `plt.subplots()` makes them, found `{type(ax).__name__}`. "
            f"{several}".rstrip()
        )
    if (ax.name == "3d") != (n_dims == 3):
        found, needed = ("3d", "2-D") if ax.name == "3d" else (ax.name, "3d")
        raise ValueError(
            f"Expected `ax` to be {needed} axes for this embedding with {n_dims} dimensions, found {found!r} axes. "
            f'Create them with `plt.subplots(subplot_kw={{"projection": "3d"}})`, or choose another `basis`.'
        )


def checked_path(save: str | os.PathLike | None) -> Path | None:
    """Give the file to write, below ``settings.figdir`` if relative; raise if that is not possible.

    Raises
    ------
    TypeError
        If ``save`` is no path.
    ValueError
        If its ending names no known format, or there is a folder of its name.
    OSError
        If the folder cannot be made or written to.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    if save is None or save is False:
        return None
    if not isinstance(save, str | os.PathLike) or not os.fspath(save):
        raise TypeError(f"Expected `save` to be the path of a file to write, found `{save!r}`.")
    path = settings.figdir / Path(save).expanduser()
    if path.name not in ("", "..") and not path.suffix:
        path = path.with_name(f"{path.name}.{settings.figure_params.format}")
    if path.is_dir():
        raise ValueError(f"Expected `save` to be the path of a file to write, found the folder `{str(path)!r}`.")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"Expected `save` to end in one of {known}, found `{str(save)!r}`.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        found = "is a file" if not above.is_dir() else "cannot be written to"
        error = NotADirectoryError if not above.is_dir() else PermissionError
        raise error(f"Expected `save={str(save)!r}` in a folder that can be written to, but `{above}` {found}.")
    return path


def save_figure(figure: Any, path: Path, dpi: float | None) -> None:
    """Write a figure under a temporary name and rename it, so that no half-written file is ever seen."""
    params = settings.figure_params
    style = {"transparent": True} if params.transparent else {"facecolor": figure.get_facecolor()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=dpi or params.dpi_save, bbox_inches="tight", **style)
    except OSError as error:
        raise type(error)(f"Expected to write the picture to `{path}`, but: {error}. Name another file.") from error
    except ValueError as error:  # such as too many pixels
        width, height = figure.get_size_inches()
        raise ValueError(
            f"Expected a picture that `{path.suffix}` can hold, found {width:g} x {height:g} inches at "
            f"{dpi or params.dpi_save:g} dots per inch: {error} Choose a smaller `figsize` or `dpi`."
        ) from error


def finish_figure(figure: Any, path: Path | None, dpi: float | None, show: bool | None) -> Any:
    """Save and show a figure of several panels; give it back if it is not shown on purpose."""
    plt = pyplot()
    if path is not None:
        save_figure(figure, path, dpi)
    if show if show is not None else path is None:
        plt.show()
        return None
    if show is False:
        return figure
    plt.close(figure)
    return None
