"""How much is logged, and how it looks; how pictures look."""

import inspect
import io
import logging
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from anndata import AnnData

import jaxvelo as jv
from jaxvelo.configuration import FigureParams, accepts_data, format_seconds, logger, settings, timed

pytestmark = pytest.mark.any_precision


@pytest.fixture(autouse=True)
def restored():
    level = logger.level
    yield
    logger.setLevel(level)
    settings.figdir = "."
    settings.set_figure_params()


@pytest.fixture
def printed(monkeypatch):
    """Return what jaxvelo's own handler printed."""
    (handler,) = logger.handlers
    stream = io.StringIO()
    monkeypatch.setattr(handler, "stream", stream)
    return stream.getvalue


@pytest.mark.parametrize(
    ("value", "name", "level"),
    [
        ("error", "error", logging.ERROR),
        ("warning", "warning", logging.WARNING),
        ("info", "info", logging.INFO),
        ("debug", "debug", logging.DEBUG),
        (0, "error", logging.ERROR),
        (1, "warning", logging.WARNING),
        (2, "info", logging.INFO),
        (3, "debug", logging.DEBUG),
    ],
)
def test_verbosity(value, name, level):
    settings.verbosity = value
    assert settings.verbosity == name
    assert logger.level == level


@pytest.mark.parametrize("value", ["loud", 4, -1, None, 1.5, True])
def test_impossible_verbosity(value):
    settings.verbosity = "debug"
    with pytest.raises(ValueError, match=r"`verbosity` to be one of \('error', .*0 to 3, found"):
        settings.verbosity = value
    assert settings.verbosity == "debug"


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.CRITICAL, "error"), (35, "error"), (15, "info"), (5, "debug"), (logging.DEBUG, "debug")],
)
def test_levels_in_between(level, name):
    """The name tells the least severe of the four kinds of messages that are shown."""
    logger.setLevel(level)
    assert settings.verbosity == name


def test_what_is_printed(printed):
    settings.verbosity = "info"
    logger.debug("not shown")
    logger.info("as it is, 100%")
    logger.warning("with %s", "its level")
    assert printed() == "as it is, 100%\nWARNING: with its level\n"


def test_timed(printed):
    settings.verbosity = "info"
    with timed("Working on 100% of `%s`"):
        logger.info("inside")
    lines = printed().splitlines()
    assert lines[:2] == ["Working on 100% of `%s`", "inside"]
    assert lines[2].startswith("    Finish (0:00:0")


def test_timed_failure(printed):
    settings.verbosity = "info"
    with pytest.raises(KeyError), timed("Working"):
        raise KeyError("a")
    assert printed() == "Working\n", "what has failed has not finished"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.00"),
        (0.049, "0:00:00.05"),
        (59.99, "0:00:59.99"),
        (59.996, "0:01:00"),
        (60, "0:01:00"),
        (119.9, "0:02:00"),
        (3599.7, "1:00:00"),
        (3661, "1:01:01"),
        (100 * 3600, "100:00:00"),
    ],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


class TestDataForAdata:
    @staticmethod
    @accepts_data
    def shape(adata, factor=1, *, copy=False):
        """Documented."""
        return factor * adata.n_obs, copy

    def test_all_ways(self):
        adata = AnnData(np.zeros((3, 2)))
        for found in (
            self.shape(adata, 2, copy=True),
            self.shape(adata=adata, factor=2, copy=True),
            self.shape(data=adata, factor=2, copy=True),
        ):
            assert found == (6, True)

    def test_signature_and_docstring_stay(self):
        assert list(inspect.signature(self.shape).parameters) == ["adata", "factor", "copy"]
        assert self.shape.__doc__ == "Documented."
        assert self.shape.__name__ == "shape"

    def test_both_or_neither(self):
        adata = AnnData(np.zeros((3, 2)))
        for arguments, named in (((adata,), {"data": adata}), ((), {"data": adata, "adata": adata})):
            with pytest.raises(TypeError, match=r"one AnnData object for shape\(\), found `data=` beside `adata`"):
                self.shape(*arguments, **named)
        with pytest.raises(TypeError, match=r"shape\(\) missing 1 required positional argument: 'adata'"):
            self.shape(factor=2)

    @pytest.mark.parametrize("package", [jv.pp, jv.tl])
    def test_everywhere(self, package):
        """All functions of an AnnData object take it under both names: what is none is refused as such."""
        functions = [getattr(package, name) for name in package.__all__]
        of_adata = [f for f in functions if inspect.isfunction(f) and "adata" in inspect.signature(f).parameters]
        assert len(of_adata) >= 5
        for function in of_adata:
            others = {
                name: None
                for name, parameter in list(inspect.signature(function).parameters.items())[1:]
                if parameter.default is inspect.Parameter.empty
            }
            with pytest.raises(TypeError, match="`adata` to be an AnnData object, found `str`"):
                function(data="a file", **others)
        assert "data" not in {name for f in functions if callable(f) for name in inspect.signature(f).parameters}


class TestFigdir:
    def test_path(self, tmp_path):
        assert settings.figdir == Path(".")
        for value in (str(tmp_path), tmp_path):
            settings.figdir = value
            assert settings.figdir == tmp_path

    def test_home(self):
        settings.figdir = "~/pictures"
        assert settings.figdir == Path.home() / "pictures"

    @pytest.mark.parametrize("value", [3, None, ["a"]])
    def test_what_is_no_path(self, value):
        with pytest.raises(TypeError, match=r"`figdir` to be the path of a folder, found"):
            settings.figdir = value

    def test_a_file(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(ValueError, match=r"`figdir` to be the path of a folder, found the file"):
            settings.figdir = tmp_path / "a"
        assert settings.figdir == Path(".")


class TestFigureParams:
    def test_what_is_left_out_returns_to_its_default(self):
        settings.set_figure_params(dpi=70, fontsize=12, format=".PDF")
        assert settings.figure_params == FigureParams(dpi=70, fontsize=12, format="pdf")
        settings.set_figure_params(frameon=True)
        assert settings.figure_params == FigureParams(frameon=True)
        settings.set_figure_params()
        assert settings.figure_params == FigureParams()

    def test_calls_of_scvelo(self):
        settings.set_figure_params(
            "scvelo",
            dpi=100,
            dpi_save=150,
            frameon=None,
            vector_friendly=True,
            transparent=True,
            fontsize=12,
            figsize=None,
            color_map=None,
            facecolor=None,
            format="pdf",
            ipython_format="png2x",
        )
        assert settings.figure_params == FigureParams(
            dpi=100, dpi_save=150, transparent=True, fontsize=12, format="pdf"
        )

    def test_matplotlib_stays_as_it_is(self):
        before = dict(matplotlib.rcParams)
        settings.set_figure_params("scanpy", dpi=33, fontsize=20, figsize=(1, 1), facecolor="red", color_map="magma")
        assert dict(matplotlib.rcParams) == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"dpi": 0}, "`dpi` to be a positive number, found `0`"),
            ({"dpi_save": -1}, "`dpi_save` to be a positive number"),
            ({"fontsize": "large"}, "`fontsize` to be a positive number"),
            ({"fontsize": True}, "`fontsize` to be a positive number"),
            ({"frameon": "artist"}, "`frameon` to be True or False"),
            ({"figsize": 3}, "`figsize` to be width and height"),
            ({"figsize": (3, 0)}, "`figsize` to be width and height"),
            ({"color_map": "nothing"}, "`color_map` to be a colour map"),
            ({"facecolor": "nothing"}, "`facecolor` to be a colour"),
            ({"format": "nothing"}, r"`format` to be one of \[.*'png'"),
        ],
    )
    def test_what_is_wrong(self, arguments, message):
        settings.set_figure_params(dpi=70)
        with pytest.raises(ValueError, match=message):
            settings.set_figure_params(**arguments)
        assert settings.figure_params == FigureParams(dpi=70)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r'pip install "jaxvelo\[tutorial\]"'):
            settings.set_figure_params(dpi=70)
        monkeypatch.undo()
        assert settings.figure_params == FigureParams()
