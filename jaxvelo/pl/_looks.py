"""Arguments that all pictures of cells share, under the names that CellRank, scVelo and scanpy have for them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxvelo.annotated.arguments import check_integer, listed

from ._checks import check_opacity, check_positive, checked_cmap
from ._colors import Continuous, Palette
from ._figure import Sheet, pyplot
from ._legend import Legend

SYNONYMS = {"c": "color", "color_map": "cmap", "s": "size"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColorScale:
    """How numbers become colours."""

    cmap: Any = None
    vmin: float | None = None
    vmax: float | None = None
    perc: Any = None
    sort_order: bool = True
    colorbar: bool = True

    def __post_init__(self) -> None:
        """Check what can be checked without the numbers."""
        for name in ("vmin", "vmax"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float | np.number):
                raise ValueError(f"Expected `{name}` to be a number, found `{value!r}`.")
        checked_cmap("cmap", self.cmap)

    def limits(self, colors: Continuous) -> tuple[float, float]:
        """Give the numbers at the ends of the colour map: all values, or what the user chose."""
        values = colors.values[np.isfinite(colors.values)]
        if not len(values):
            return 0.0, 1.0
        low, high = colors.limits or (float(values.min()), float(values.max()))
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks:
    """How cells, legend and figure look; explained in :func:`jaxvelo.pl.scatter`."""

    color: Any = None
    layer: str | None = None
    use_raw: bool | None = None
    groups: Any = None
    palette: Palette = None
    scale: ColorScale = dataclasses.field(default_factory=ColorScale)
    size: float | None = None
    alpha: float = 1.0
    components: Any = None
    projection: str | None = None
    legend: Legend = dataclasses.field(default_factory=Legend)
    title: str | Sequence[str] | None = None
    fontsize: float | None = None
    frameon: bool | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    ncols: int = 4
    sheet: Sheet = dataclasses.field(default_factory=Sheet)

    def __post_init__(self) -> None:
        """Check what can be checked without the cells."""
        for name in ("size", "fontsize"):
            check_positive(name, getattr(self, name))
        check_opacity("alpha", self.alpha)
        for name in ("layer", "xlabel", "ylabel"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"Expected `{name}` to be a text, found `{value!r}`.")
        check_integer("ncols", self.ncols, 1)


def picture(**defaults: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function that draws take the shared arguments and their synonyms, and refuse all others by name.

    An argument whose annotation is one of the classes of looks (:class:`Looks`, :class:`Sheet`) stands for all fields
    of it: these are the arguments that the user passes, and the function gets the object. ``defaults`` are those of its
    own. For a function with :class:`Looks`, :obj:`None` stands for an argument's default everywhere but in
    ``legend_loc``.

    Raises
    ------
    TypeError
        On calls with arguments that are not there, with a list of those that are; and at once if one of these classes
        is named by a text, as all are below ``from __future__ import annotations``.
    """

    def decorated(draw: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(draw)
        own = dict(signature.parameters)
        objects = {name: p.annotation for name, p in own.items() if _is_of_looks(p.annotation, draw, name)}
        for name in objects:
            del own[name]
        fields: dict[str, dataclasses.Field] = {}
        for kind in objects.values():
            fields |= {field.name: field for field in _arguments(kind) if field.name not in own}
        others = {name: defaults.get(name, field.default) for name, field in fields.items()}
        names = [*own, *others]
        none_is_default = Looks in objects.values()

        @functools.wraps(draw)
        def drawn(*args: Any, **given: Any) -> Any:
            pyplot()  # says how to install matplotlib before anything else asks for it
            meant = _in_our_words(draw.__name__, given, names)
            if none_is_default:
                meant = {name: value for name, value in meant.items() if value is not None or name == "legend_loc"}
            shared = {name: meant.pop(name, default) for name, default in others.items()}
            return draw(*args, **meant, **{name: _made_of(kind, shared) for name, kind in objects.items()})

        keyword_only = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(name, keyword_only, default=default, annotation=fields[name].type)
            for name, default in others.items()
        ]
        drawn.__signature__ = signature.replace(parameters=[*own.values(), *more])  # type: ignore[attr-defined]
        return drawn

    return decorated


def _is_of_looks(annotation: Any, owner: Any, name: str) -> bool:
    """Whether an annotation is a class of looks; raise a TypeError if it names one by a text."""
    classes = {kind.__name__ for kind in (Looks, ColorScale, Legend, Sheet)}
    if isinstance(annotation, str) and annotation.strip("'\"").rpartition(".")[2] in classes:
        raise TypeError(
            f"Expected the annotation of `{name}` of `{owner.__qualname__}` to be a class, found the text "
            f"{annotation!r}. Write the class without quotes, in a file without `from __future__ import annotations`."
        )
    return dataclasses.is_dataclass(annotation)


def _arguments(kind: Any) -> Iterator[dataclasses.Field]:
    """Give the fields that an object is made of, in the place of its parts the fields of these."""
    for field in dataclasses.fields(kind):
        if _is_of_looks(field.type, kind, field.name):
            yield from _arguments(field.type)
        else:
            yield field


def _made_of(kind: Any, arguments: dict[str, Any]) -> Any:
    """Make an object of the arguments of a call."""
    return kind(
        **{
            field.name: _made_of(field.type, arguments)
            if dataclasses.is_dataclass(field.type)
            else arguments[field.name]
            for field in dataclasses.fields(kind)
            if dataclasses.is_dataclass(field.type) or field.name in arguments
        }
    )


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
