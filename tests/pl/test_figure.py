import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from jaxvelo import pl


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
