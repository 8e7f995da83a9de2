"""Arguments that all pictures of cells share, under the names that CellRank, scVelo and scanpy have for them."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.configuration import is_positive, settings

from ._colors import Continuous, Palette
from ._figure import check_size, checked_path, pyplot
from ._legend import legend_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYNONYMS = {"c": "color", "color_map": "cmap", "s": "size"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks:
    """How cells, legend and figure look; explained in :func:`jaxvelo.pl.scatter`."""

    color: Any = None
    layer: str | None = None
    use_raw: bool | None = None
    groups: Any = None
    palette: Palette = None
    cmap: Any = None
    vmin: float | None = None
    vmax: float | None = None
    perc: Any = None
    sort_order: bool = True
    colorbar: bool = True
    size: float | None = None
    alpha: float = 1.0
    components: Any = None
    projection: str | None = None
    legend_loc: Any = "right margin"
    legend_fontsize: float | None = None
    legend_fontweight: Any = None
    legend_fontoutline: float | None = None
    title: str | Sequence[str] | None = None
    fontsize: float | None = None
    frameon: bool | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    ncols: int = 4
    figsize: tuple[float, float] | None = None
    dpi: float | None = None
    ax: "Axes | None" = None
    save: str | os.PathLike | None = None
    show: bool | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the cells."""
        for name in ("size", "legend_fontsize", "legend_fontoutline", "fontsize"):
            check_positive(name, getattr(self, name))
        check_opacity("alpha", self.alpha)
        for name in ("vmin", "vmax"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float | np.number):
                raise ValueError(f"Expected `{name}` to be a number, found `{value!r}`.")
        for name in ("layer", "xlabel", "ylabel"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"Expected `{name}` to be a text, found `{value!r}`.")
        check_integer("ncols", self.ncols, 1)
        checked_cmap("cmap", self.cmap)
        legend_place(self.legend_loc, right_is_outside=True)
        check_size(self.figsize, self.dpi)
        checked_path(self.save)

    def limits(self, colors: Continuous) -> tuple[float, float]:
        """Give the numbers at the ends of the colour map: all values, or what the user chose."""
        values = colors.values[np.isfinite(colors.values)]
        if not len(values):
            return 0.0, 1.0
        low, high = float(values.min()), float(values.max())
        if self.perc is not None:
            bounds = np.atleast_1d(np.asarray(self.perc, dtype=float))
            if bounds.shape not in ((1,), (2,)) or not ((bounds >= 0) & (bounds <= 100)).all():
                raise ValueError(f"Expected `perc` to be one or two numbers from 0 to 100, found `{self.perc!r}`.")
            if len(bounds) == 1:  # cuts the end that it is near to
                bounds = np.array([bounds[0], 100.0] if bounds[0] < 50 else [0.0, bounds[0]])
            low, high = (float(x) for x in np.percentile(values, np.sort(bounds)))
        low = low if self.vmin is None else float(self.vmin)
        high = high if self.vmax is None else float(self.vmax)
        if not low <= high:
            raise ValueError(f"Expected `vmin` not to be above `vmax`, found {low:g} and {high:g}.")
        return low, high


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is a positive number, or :obj:`None`."""
    if value is not None and not is_positive(value):
        raise ValueError(f"Expected `{name}` to be positive and finite, found `{value!r}`.")


def check_opacity(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is a number from 0 to 1."""
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise ValueError(f"Expected `{name}` to be an opacity from 0 to 1, found `{value!r}`.")


def checked_cmap(name: str, cmap: Any) -> Any:
    """Give a colour map: of matplotlib by its name, as it is, or made from a list of colours.

    :obj:`None` stands for that of ``settings.set_figure_params``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Colormap, LinearSegmentedColormap, is_color_like

    cmap = settings.figure_params.color_map if cmap is None else cmap
    if isinstance(cmap, Colormap):
        return cmap
    if isinstance(cmap, str) and cmap in list(colormaps):
        return colormaps[cmap]
    if isinstance(cmap, list | tuple) and len(cmap) > 1 and all(map(is_color_like, cmap)):
        return LinearSegmentedColormap.from_list("listed", list(cmap))
    raise ValueError(
        f"Expected `{name}` to be a colour map of matplotlib, such as 'viridis', or a list of colours, found "
        f"`{cmap!r}`."
    )


def check_color(name: str, color: Any) -> None:
    """Raise a ValueError unless matplotlib knows the colour."""
    from matplotlib.colors import is_color_like

    if not is_color_like(color):
        raise ValueError(f"Expected `{name}` to be a colour, such as 'red' or '#ff0000', found `{color!r}`.")


def picture(**defaults: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function that draws take the shared arguments and their synonyms, and refuse all others by name.

    A function with an argument ``looks`` gets the shared ones as :class:`Looks`; ``defaults`` are those of its own. For
    it, :obj:`None` stands for an argument's default everywhere but in ``legend_loc``.

    Raises
    ------
    TypeError
        On calls with arguments that are not there, with a list of those that are.
    """
    shared = {field.name: defaults.get(field.name, field.default) for field in dataclasses.fields(Looks)}

    def decorated(draw: Callable[..., Any]) -> Callable[..., Any]:
        own = dict(inspect.signature(draw).parameters)
        is_of_cells = own.pop("looks", None) is not None
        others = {name: default for name, default in shared.items() if name not in own} if is_of_cells else {}
        names = [*own, *others]

        @functools.wraps(draw)
        def drawn(*args: Any, **given: Any) -> Any:
            pyplot()  # says how to install matplotlib before anything else asks for it
            given = _in_our_words(draw.__name__, given, names)
            if not is_of_cells:
                return draw(*args, **given)
            meant = {name: value for name, value in given.items() if value is not None or name == "legend_loc"}
            looks = Looks(**{name: meant.pop(name, default) for name, default in others.items()})
            return draw(*args, **meant, looks=looks)

        keyword_only = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(name, keyword_only, default=default) for name, default in others.items()]
        drawn.__signature__ = inspect.Signature([*own.values(), *more])  # type: ignore[attr-defined]
        return drawn

    return decorated


def _in_our_words(function: str, given: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Replace synonyms, and raise a TypeError for arguments that are not there."""
    words: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in given.items():
        word = SYNONYMS.get(name, name) if name not in names else name
        if word not in names:
            raise TypeError(
                f"Expected arguments of `{function}` among {listed(names, len(names))}, found `{name}`. Leave it out, "
                "or draw with `show=False` and change the axes that are returned."
            )
        if word in words:
            raise TypeError(f"Expected one of `{said[word]}` and `{name}`, which mean the same, found both.")
        words[word], said[word] = value, name
    return words
