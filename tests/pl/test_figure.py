import inspect
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from jaxvelo import pl, settings

from .conftest import make_cells

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("plain", b"\x89PNG")]
)
def test_pictures_are_written(cells, tmp_path, name, start):
    assert pl.scatter(cells, save=tmp_path / "folder" / name) is None
    (file,) = (tmp_path / "folder").iterdir()  # nothing temporary is left
    assert file.name == (name if "." in name else f"{name}.png")
    assert file.read_bytes().startswith(start)
    assert not plt.get_fignums()


def test_a_failing_write_leaves_the_old_picture(cells, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(self, target, **keywords):
        target.write_bytes(b"half a pict")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        pl.scatter(cells, save=path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_resolution_and_size(cells, tmp_path):
    ax = pl.scatter(cells, figsize=(3.0, 2.0), dpi=50, save=tmp_path / "a.png", show=False)
    assert tuple(ax.figure.get_size_inches()) == (3.0, 2.0)
    assert ax.figure.dpi == 50
    assert max(plt.imread(tmp_path / "a.png").shape[:2]) <= 160


def test_shown_unless_saved_or_on_own_axes(cells, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert pl.scatter(cells) is None
    assert len(shown) == 1
    pl.scatter(cells, save=tmp_path / "a.png")
    assert pl.scatter(cells, show=False) is not None
    _, ax = plt.subplots()
    assert pl.scatter(cells, ax=ax) is ax
    assert len(shown) == 1
    pl.scatter(cells, save=tmp_path / "a.png", show=True)
    assert len(shown) == 2


def test_without_matplotlib():
    script = """
import sys
sys.modules["matplotlib"] = None
import numpy as np
from jaxvelo import datasets, pl
adata = datasets.simulate(20, 10)
adata.obsm["T_fwd_umap"] = adata.obsm["X_umap"]
walk = [np.array([0, 1])]
chain = np.eye(20)
for draw in (
    lambda: pl.scatter(adata),
    lambda: pl.projection_stream(adata),
    lambda: pl.projection_grid(adata),
    lambda: pl.projection_cells(adata),
    lambda: pl.proportions(adata),
    lambda: pl.phase_portrait(adata, adata.var_names[0]),
    lambda: pl.random_walks(adata, walk),
    lambda: pl.single_flow(adata, chain, "Progenitor", "clusters", "true_time"),
):
    try:
        draw()
    except ImportError as error:
        assert 'pip install "jaxvelo[tutorial]"' in str(error), error
    else:
        raise AssertionError("drawn")
print("done")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


class TestSettings:
    """`settings.figdir` and `settings.set_figure_params`, for pictures of jaxvelo alone."""

    def test_relative_paths_start_from_figdir(self, cells, tmp_path):
        settings.figdir = tmp_path / "figures"
        assert not settings.figdir.exists()
        pl.scatter(cells, save="a")
        pl.scatter(cells, save="deeper/b.pdf")
        pl.scatter(cells, save=str(tmp_path / "elsewhere.png"))
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
            "elsewhere.png",
            "figures/a.png",
            "figures/deeper/b.pdf",
        ]

    def test_the_working_directory_by_default(self, cells, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pl.scatter(cells, save="a.png")
        assert (tmp_path / "a.png").exists()

    @pytest.mark.parametrize("draw", ["walks", "flow", "proportions", "phase"])
    def test_in_every_picture(self, cells, tmp_path, draw):
        cells.layers["Ms"], cells.layers["Mu"] = cells.layers["spliced"], cells.layers["unspliced"]
        settings.figdir = tmp_path
        settings.set_figure_params(format="svg", dpi=70, facecolor="#eeffee")
        figures = {
            "walks": lambda **kw: pl.random_walks(cells, [np.arange(9)], **kw),
            "flow": lambda **kw: pl.single_flow(cells, np.full((60, 60), 1 / 60), "early", "clusters", "day", **kw),
            "proportions": lambda **kw: pl.proportions(cells, "clusters", **kw),
            "phase": lambda **kw: pl.phase_portrait(cells, "gene_0", **kw),
        }
        ax = figures[draw](save="picture", show=False)
        assert (tmp_path / "picture.svg").read_bytes().startswith(b"<?xml")
        assert ax.figure.dpi == 70
        assert to_hex(ax.figure.get_facecolor()) == "#eeffee"

    def test_looks(self, cells, tmp_path):
        settings.set_figure_params(
            "scvelo",
            dpi=50,
            dpi_save=40,
            frameon=True,
            fontsize=20,
            figsize=(3, 2),
            color_map="magma",
            transparent=True,
        )
        ax = pl.scatter(cells, color="time", save=tmp_path / "a.png", show=False)
        assert tuple(ax.figure.get_size_inches()) == (3, 2)
        assert ax.figure.dpi == 50
        assert ax.collections[1].get_cmap() == plt.get_cmap("magma")
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP1", "UMAP2")
        assert ax.axison
        assert ax.title.get_fontsize() == 26
        picture = plt.imread(tmp_path / "a.png")
        assert max(picture.shape) < 140
        assert picture[0, 0, 3] == 0
        assert {text.get_fontsize() for text in pl.scatter(cells, show=False).get_legend().texts} == {20}

    def test_calls_come_first(self, cells, tmp_path):
        settings.set_figure_params(dpi=50, frameon=True, figsize=(3, 2), color_map="magma")
        ax = pl.scatter(cells, color="time", dpi=60, frameon=False, figsize=(4, 3), cmap="cividis", show=False)
        assert tuple(ax.figure.get_size_inches()) == (4, 3)
        assert ax.figure.dpi == 60
        assert not ax.axison
        assert ax.collections[1].get_cmap() == plt.get_cmap("cividis")

    def test_images_in_vector_files(self, tmp_path):
        many = make_cells(2100)
        for friendly in (True, False):
            settings.set_figure_params(vector_friendly=friendly)
            assert pl.scatter(many, show=False).collections[0].get_rasterized() == friendly


def test_frames_and_labels(cells):
    assert not pl.scatter(cells, show=False).axison
    ax = pl.scatter(cells, frameon=True, show=False)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP1", "UMAP2")
    assert all(spine.get_visible() for spine in ax.spines.values())
    assert len(ax.get_xticks()) == 0
    ax = pl.scatter(cells, xlabel="left to right", show=False)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("left to right", "")
    assert ax.axison
    assert not any(spine.get_visible() for spine in ax.spines.values())
    ax = pl.scatter(cells, "umap3d", frameon=True, show=False)
    assert ax.get_zlabel() == "umap3d3"


def test_title_and_its_size(cells):
    ax = pl.scatter(cells, title="mine", fontsize=21, show=False)
    assert (ax.get_title(), ax.title.get_fontsize()) == ("mine", 21)


DRAW = {
    "scatter": lambda cells, **kw: pl.scatter(cells, **kw),
    "grid": lambda cells, **kw: pl.projection_grid(cells, **kw),
    "cells": lambda cells, **kw: pl.projection_cells(cells, **kw),
    "stream": lambda cells, **kw: pl.projection_stream(cells, **kw),
    "walks": lambda cells, **kw: pl.random_walks(cells, [np.arange(9)], **kw),
    "flow": lambda cells, **kw: pl.single_flow(cells, np.full((60, 60), 1 / 60), "early", "clusters", "day", **kw),
    "proportions": lambda cells, **kw: pl.proportions(cells, "clusters", **kw),
    "phase": lambda cells, **kw: pl.phase_portrait(cells, "gene_0", **kw),
}
OF_CELLS = ["scatter", "grid", "cells", "stream", "walks"]


@pytest.fixture
def moments(unchanged):
    unchanged.layers["Ms"], unchanged.layers["Mu"] = unchanged.layers["spliced"], unchanged.layers["unspliced"]
    yield unchanged
    del unchanged.layers["Ms"], unchanged.layers["Mu"]


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"figsize": (3,)}, ValueError, r"`figsize` to be width and height in inches.*found `\(3,\)`"),
        ({"figsize": (3, -2)}, ValueError, "`figsize`"),
        ({"figsize": 5}, ValueError, "`figsize`"),
        ({"figsize": "large"}, ValueError, "`figsize`"),
        ({"figsize": (3, np.inf)}, ValueError, "`figsize`"),
        ({"dpi": 0}, ValueError, "`dpi` to be a positive number"),
        ({"dpi": "high"}, ValueError, "`dpi` to be a positive number"),
        ({"ax": 3}, TypeError, "`ax` to be the axes to draw on.*found `int`"),
        ({"ax": [None, None]}, TypeError, "`ax` to be the axes.*found `list`. Pass one of them"),
        ({"save": 3}, TypeError, "`save` to be the path of a file to write, found `3`"),
        ({"save": True}, TypeError, "`save` to be the path"),
        ({"save": ""}, TypeError, "`save` to be the path"),
        ({"save": "a.nothing"}, ValueError, r"`save` to end in one of \[.*'png'"),
        ({"save": "."}, ValueError, "found the folder"),
        ({"edges": True}, TypeError, r"among \['adata'.*'save', 'show'\], found `edges`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_drawn(
    moments, name, arguments, error, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        DRAW[name](moments, **{"show": False, **arguments})
    assert not plt.get_fignums()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OF_CELLS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color_map": "nothing", "color": "time"}, "colour map of matplotlib.*found `'nothing'`"),
        ({"color_map": ["red", "no colour"]}, "colour map of matplotlib"),
        ({"alpha": 2}, "`alpha` to be an opacity from 0 to 1, found `2`"),
        ({"alpha": "much"}, "`alpha`"),
        ({"size": -1}, "`size` to be positive"),
        ({"size": "large"}, "`size` to be positive"),
        ({"vmin": "low"}, "`vmin` to be a number"),
        ({"vmin": 2, "vmax": 1, "color": "time"}, "`vmin` not to be above `vmax`"),
        ({"perc": 120, "color": "time"}, "`perc` to be one or two numbers from 0 to 100"),
        ({"legend_fontsize": 0}, "`legend_fontsize` to be positive"),
        ({"fontsize": 0}, "`fontsize` to be positive"),
        ({"components": "1,9"}, "to have 9 or more columns"),
        ({"components": "0,1"}, "`components` to be two columns"),
        ({"components": "one"}, "`components` to be two columns"),
        ({"projection": "4d"}, "`projection` to be '2d' or '3d'"),
    ],
)
def test_what_is_wrong_about_cells(unchanged, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        DRAW[name](unchanged, **{"show": False, **arguments})
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", OF_CELLS)
def test_synonyms_mean_the_same(unchanged, name):
    ax = DRAW[name](unchanged, c="tab:red", s=9.0, alpha=None, title=None, show=False)
    assert to_hex(ax.collections[0].get_facecolors()[0]) == "#d62728"
    assert ax.collections[0].get_sizes()[0] == 9.0
    with pytest.raises(TypeError, match="one of `color` and `c`, which mean the same"):
        DRAW[name](unchanged, color="clusters", c="clusters", show=False)


@pytest.mark.parametrize("name", DRAW)
def test_arguments_can_be_looked_up(name):
    renamed = {"grid": "projection_grid", "cells": "projection_cells", "stream": "projection_stream"}
    renamed |= {"walks": "random_walks", "flow": "single_flow", "phase": "phase_portrait"}
    function = getattr(pl, renamed.get(name, name))
    parameters = inspect.signature(function).parameters
    assert {"adata", "figsize", "dpi", "ax", "save", "show"} <= set(parameters)
    assert "looks" not in parameters


def test_other_arguments(cells):
    with pytest.raises(ValueError, match="`arrow_color` to be a colour"):
        pl.projection_grid(cells, arrow_color="no colour")
    with pytest.raises(ValueError, match="`colors` to be a colour"):
        pl.proportions(cells, "clusters", colors=["red", "no colour"])
    with pytest.raises(ValueError, match="`linealpha` to be an opacity"):
        pl.random_walks(cells, [np.arange(3)], linealpha=7)
    with pytest.raises(ValueError, match="`alpha` to be an opacity"):
        pl.single_flow(cells, np.eye(60), "early", "clusters", "day", alpha=-1)
    with pytest.raises(ValueError, match="`density` to be a share of the cells"):
        pl.projection_cells(cells, density=1.5)


class TestPlacesToWrite:
    def test_a_file_in_the_way(self, cells, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(NotADirectoryError, match=r"`save='.*a.png'` in a folder.*file` is a file"):
            pl.scatter(cells, save=str(tmp_path / "file" / "a.png"))
        assert not plt.get_fignums()

    def test_a_folder_that_cannot_be_written_to(self, cells, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda *_: False)
        with pytest.raises(PermissionError, match=r"folder that can be written to, but `.*` cannot be written to"):
            pl.scatter(cells, save=tmp_path / "a.png")
        assert not plt.get_fignums()

    def test_what_the_system_refuses(self, cells):
        if not Path("/proc").is_dir():
            pytest.skip("no folder that refuses everyone")
        with pytest.raises(OSError, match=r"to write the picture to `/proc/a.png`, but"):
            pl.scatter(cells, save="/proc/a.png")

    def test_a_picture_that_is_too_large(self, cells, tmp_path):
        with pytest.raises(
            ValueError, match=r"`\.png` can hold, found 9000 x 0.01 inches at 1000 dots.*Choose a smaller"
        ):
            pl.scatter(cells, figsize=(9000, 0.01), dpi=1000, save=tmp_path / "a.png")
        assert not list(tmp_path.iterdir())
        assert not plt.get_fignums()

    def test_a_failure_closes_the_figure(self, cells, monkeypatch):
        monkeypatch.setattr("jaxvelo.pl._panels.draw_legend", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pl.scatter(cells, show=False)
        assert not plt.get_fignums()
        _, ax = plt.subplots()
        with pytest.raises(ZeroDivisionError):
            pl.scatter(cells, ax=ax)
        assert plt.get_fignums(), "the caller's figure stays"
