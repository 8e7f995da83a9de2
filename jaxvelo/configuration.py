"""Settings of the AnnData-facing part, and its log lines."""

import contextlib
import dataclasses
import logging
import math
import numbers
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from jaxvelo.computing_device import described, idle_gpu

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("jaxvelo")


class _Formatter(logging.Formatter):
    """Information as plain text, everything else with its level in front, as CellRank prints."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno == logging.INFO else f"{record.levelname}: {message}"


class LogHandler(logging.StreamHandler):
    """Writes lines where no progress bar stands: bars make room for them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        bars = sys.modules.get("tqdm")  # before it is imported, there are none
        with contextlib.nullcontext() if bars is None else bars.tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@dataclasses.dataclass(frozen=True)
class FigureParams:
    """How pictures look where a call does not say otherwise; see :meth:`Settings.set_figure_params`."""

    dpi: float | None = None
    dpi_save: float = 200.0
    frameon: bool = False
    vector_friendly: bool = True
    transparent: bool = False
    fontsize: float = 10.0
    figsize: tuple[float, float] | None = None
    color_map: Any = "viridis"
    facecolor: Any = "white"
    format: str = "png"


class Settings:
    """Settings that hold for the whole process.

    Attributes
    ----------
    verbosity
        What is logged: ``"error"``, ``"warning"``, ``"info"`` (default) or ``"debug"``, or the numbers 0 to 3.
    figdir
        Folder that relative paths in ``save=`` start from, a :class:`~pathlib.Path`; the working directory by default
        (CellRank's and scVelo's is ``./figures``). It is made when the first picture is saved.
    layerdir
        Folder for layers that are computed of layers on disk; :obj:`None`, the default, for a folder beside their file.
        Layers of one key replace each other there: each data set needs a folder of its own.
    figure_params
        How pictures look where a call does not say otherwise; changed by :meth:`set_figure_params`.
    mesh
        Devices that share the work on kernels, a :class:`jax.sharding.Mesh` such as ``jax.make_mesh((8,), ("cells",))``
        of eight, of this process or of all that :func:`jax.distributed.initialize` has joined; ``None`` (default) for
        one. It holds for kernels that are made or read from then on; what follows from transition matrices, and what
        goes from counts to velocities, is computed by the host or by the default device, and does not need it.
    shard_features
        Whether these devices also share expression and velocity, which then need not fit on any of them; not by
        default: each has all. It serves :meth:`VelocityKernel.compute_transition_matrix
        <jaxvelo.kernels.VelocityKernel.compute_transition_matrix>`; what fits kernels has all on each device.

    Raises
    ------
    TypeError, ValueError
        When a setting is given a value that it cannot have.

    Examples
    --------
    >>> jv.settings.verbosity = "warning"
    >>> jv.settings.verbosity
    'warning'
    >>> jv.settings.verbosity = "info"
    """

    _levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    _names = ("error", "warning", "info", "debug")

    def __init__(self) -> None:
        self._figdir = Path(".")
        self._layerdir: Path | None = None
        self._figure_params = FigureParams()
        self._mesh: Any = None
        self._shard_features = False
        if not logger.handlers:
            handler = LogHandler()
            handler.setFormatter(_Formatter())
            logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)

    @property
    def verbosity(self) -> str:
        """Name of the current level."""
        level = logger.getEffectiveLevel()
        return self._names[max((i for i, known in enumerate(self._levels) if known >= level), default=0)]

    @verbosity.setter
    def verbosity(self, value: str | int) -> None:
        if value in self._names:
            index = self._names.index(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self._levels):
            index = value
        else:
            raise ValueError(f"Expected `verbosity` to be one of {self._names} or 0 to 3, found `{value!r}`.")
        logger.setLevel(self._levels[index])

    @property
    def mesh(self) -> Any:
        """Devices that share the work on kernels."""
        return self._mesh

    @mesh.setter
    def mesh(self, value: Any) -> None:
        # No `isinstance`: settings are to be had without waiting for JAX.
        if value is not None and not (hasattr(value, "devices") and hasattr(value, "axis_names")):
            raise TypeError(
                f"Expected `mesh` to be a mesh of devices or None, found `{value!r}`. "
                'Make one as `jax.make_mesh((jax.device_count(),), ("cells",))`.'
            )
        self._mesh = value

    @property
    def shard_features(self) -> bool:
        """Whether the devices of :attr:`mesh` share expression and velocity."""
        return self._shard_features

    @shard_features.setter
    def shard_features(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"Expected `shard_features` to be `bool`, found `{value!r}`.")
        self._shard_features = value

    @property
    def figdir(self) -> Path:
        """Folder that relative paths in ``save=`` start from."""
        return self._figdir

    @figdir.setter
    def figdir(self, value: str | os.PathLike) -> None:
        self._figdir = _folder("figdir", value)

    @property
    def layerdir(self) -> Path | None:
        """Folder for layers that are computed of layers on disk."""
        return self._layerdir

    @layerdir.setter
    def layerdir(self, value: str | os.PathLike | None) -> None:
        self._layerdir = None if value is None else _folder("layerdir", value)

    @property
    def figure_params(self) -> FigureParams:
        """How pictures look where a call does not say otherwise."""
        return self._figure_params

    def set_figure_params(
        self,
        style: str | None = None,
        dpi: float | None = None,
        dpi_save: float | None = None,
        frameon: bool | None = None,
        vector_friendly: bool | None = None,
        transparent: bool | None = None,
        fontsize: float | None = None,
        figsize: tuple[float, float] | None = None,
        color_map: Any = None,
        facecolor: Any = None,
        format: str | None = None,
        ipython_format: Any = None,
    ) -> None:
        """Set how pictures look where a call does not say otherwise, under scVelo's name and with its arguments.

        It concerns jaxvelo's pictures alone: matplotlib's own settings stay as they are. What is left out, or
        :obj:`None`, returns to its default, so that a call without arguments restores all.

        Parameters
        ----------
        style
            Accepted for scripts written for scVelo (``"scvelo"``, ``"scanpy"``); without effect.
        dpi
            Resolution of new figures; matplotlib's ``figure.dpi`` by default.
        dpi_save
            Resolution of saved pictures where a call gives no ``dpi``; 200 by default.
        frameon
            Whether embeddings have a frame, and their axes names; not by default.
        vector_friendly
            Whether many cells (more than 2,000) are drawn as an image within vector files such as ``.pdf``, which are
            slow to open otherwise; so by default.
        transparent
            Whether saved pictures have a transparent background; not by default.
        fontsize
            Size of a legend's text in points, 10 by default; all other text is in proportion.
        figsize
            Width and height in inches of new figures with a single picture of cells; 6 × 4.8 by default.
        color_map
            Colour map of numbers; ``"viridis"`` by default.
        facecolor
            Background; white by default.
        format
            Ending of pictures that are saved under a name without one; ``"png"`` by default.
        ipython_format
            Accepted for scripts written for scVelo; without effect. In notebooks ``%config
            InlineBackend.figure_formats`` sets it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a value is out of range, or no colour, colour map or format that matplotlib knows.

        Examples
        --------
        >>> jv.settings.set_figure_params(dpi_save=300, frameon=True)
        >>> jv.settings.figure_params.dpi_save
        300
        >>> jv.settings.set_figure_params()  # back to the defaults
        """
        if style is not None or ipython_format is not None:
            logger.debug("Ignoring `style` and `ipython_format`: they are matplotlib's and the notebook's own settings")
        given = {
            "dpi": dpi,
            "dpi_save": dpi_save,
            "frameon": frameon,
            "vector_friendly": vector_friendly,
            "transparent": transparent,
            "fontsize": fontsize,
            "figsize": figsize,
            "color_map": color_map,
            "facecolor": facecolor,
            "format": None if format is None else str(format).lstrip(".").lower(),
        }
        params = FigureParams(**{name: value for name, value in given.items() if value is not None})
        _check_figure_params(params)
        self._figure_params = params


def _folder(name: str, value: Any) -> Path:
    """Turn the path of a folder, which need not be there yet, into one."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"Expected `{name}` to be the path of a folder, found `{value!r}`.")
    folder = Path(value).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected `{name}` to be the path of a folder, found the file `{str(folder)!r}`.")
    return folder


def _check_figure_params(params: FigureParams) -> None:
    """Raise a ValueError that names what cannot be used."""
    try:
        from matplotlib import colormaps
        from matplotlib.backend_bases import FigureCanvasBase
        from matplotlib.colors import Colormap, is_color_like
    except ImportError as error:
        raise ImportError('Drawing needs matplotlib: pip install "jaxvelo[tutorial]".') from error
    for name in ("dpi", "dpi_save", "fontsize"):
        value = getattr(params, name)
        if value is not None and not is_positive(value):
            raise ValueError(f"Expected `{name}` to be a positive number, found `{value!r}`.")
    for name in ("frameon", "vector_friendly", "transparent"):
        if getattr(params, name) not in (True, False):
            raise ValueError(f"Expected `{name}` to be True or False, found `{getattr(params, name)!r}`.")
    if params.figsize is not None and not is_size(params.figsize):
        raise ValueError(f"Expected `figsize` to be width and height in inches, found `{params.figsize!r}`.")
    if not isinstance(params.color_map, Colormap) and params.color_map not in list(colormaps):
        raise ValueError(f"Expected `color_map` to be a colour map of matplotlib, found `{params.color_map!r}`.")
    if not is_color_like(params.facecolor):
        raise ValueError(f"Expected `facecolor` to be a colour, found `{params.facecolor!r}`.")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if params.format not in known:
        raise ValueError(f"Expected `format` to be one of {known}, found `{params.format!r}`.")


def is_positive(value: Any) -> bool:
    """Whether ``value`` is a positive, finite number; truth values and text are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def is_size(value: Any) -> bool:
    """Whether ``value`` is a width and a height."""
    try:
        return len(value) == 2 and all(map(is_positive, value))
    except TypeError:
        return False


settings = Settings()


_said: set[str] = set()
"""What was said about the device already."""


def _say_device() -> None:
    """Say once which device computes, and whether a GPU lies idle."""
    jax = sys.modules.get("jax")  # before it is imported, nothing is computed
    if jax is None:
        return
    default = jax.config.jax_default_device
    if settings.mesh is not None:
        devices = list(settings.mesh.devices.flat)
    elif default is None or isinstance(default, str):
        devices = jax.devices(default)[:1]
    else:
        devices = [default]
    line = f"Computing on {described(devices)}"
    if line in _said:
        return
    _said.add(line)
    logger.info("%s", line)
    remedy = idle_gpu(devices[0].platform, jax.config.jax_platforms) if default is None else None
    if remedy is not None:
        logger.warning("There is a GPU that is not used. %s", remedy)


@contextlib.contextmanager
def timed(message: str, finish: str = "    Finish") -> Iterator[None]:
    """Log ``message``, run the block, log ``finish`` with the time that the block took; first of all, the device."""
    _say_device()
    logger.info(message)
    start = time.perf_counter()
    yield
    logger.info("%s (%s)", finish, format_seconds(time.perf_counter() - start))


def format_seconds(seconds: float) -> str:
    """Format a duration as ``h:mm:ss``, with hundredths below a minute (most steps take less than a second)."""
    if round(seconds, 2) < 60:
        return f"0:00:{seconds:05.2f}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def ignore_arguments(**arguments: Any) -> None:
    """Say in the debug log which arguments of CellRank are without effect here."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        logger.debug("Ignoring %s: everything runs in one compiled program", ", ".join(f"`{name}`" for name in given))


def accepts_data(function: Callable[P, R]) -> Callable[P, R]:
    """Let the argument ``adata`` of a function also be called ``data``, as scVelo calls it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "data" in kwargs:
            if args or "adata" in kwargs:
                name = getattr(function, "__name__", "the function")
                raise TypeError(
                    f"Expected one AnnData object for {name}(), found `data=` beside `adata`. Leave one out."
                )
            kwargs["adata"] = kwargs.pop("data")
        return function(*args, **kwargs)

    return call
