"""The pancreas data: downloaded once, checked, or read from a path."""

import http.server
import threading

import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo import datasets
from jaxvelo.datasets import _pancreas

pytestmark = pytest.mark.any_precision


def small_pancreas():
    """A file with what the published one has, on 30 cells."""
    adata = datasets.simulate(40, 20)
    names = list(datasets.PANCREAS_COLORS)
    obs = pd.DataFrame({"clusters": pd.Categorical.from_codes(np.arange(40) % 8, names)}, index=adata.obs_names)
    layers = {key: adata.layers[key] for key in ("spliced", "unspliced")}
    return anndata.AnnData(adata.X, obs=obs, layers=layers, obsm={"X_umap": adata.obsm["X_umap"]})


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A web server with the small file, and a cache that is empty; the environment points nowhere else."""
    pooch = pytest.importorskip("pooch")
    folder = tmp_path / "server"
    folder.mkdir()
    small_pancreas().write_h5ad(folder / "data.h5ad")
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, directory=str(folder), **keywords)

        def log_message(self, *arguments):
            requests.append(arguments)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.delenv("JAXVELO_SHARED", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(_pancreas, "PANCREAS_URL", f"http://127.0.0.1:{server.server_port}/data.h5ad")
    monkeypatch.setattr(_pancreas, "PANCREAS_SHA256", pooch.file_hash(str(folder / "data.h5ad")))
    yield tmp_path, requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_pancreas_is_downloaded_once(local):
    folder, requests = local
    first, second = datasets.pancreas(), datasets.pancreas()
    assert len(requests) == 1
    assert [file.name for file in (folder / "cache" / "jaxvelo").iterdir()] == ["endocrinogenesis_day15.h5ad"]
    assert abs(first.X - second.X).max() == 0
    assert dict(zip(first.obs["clusters"].cat.categories, first.uns["clusters_colors"], strict=True)) == (
        datasets.PANCREAS_COLORS
    )


def test_a_damaged_copy_is_replaced(local):
    folder, requests = local
    datasets.pancreas()
    (folder / "cache" / "jaxvelo" / "endocrinogenesis_day15.h5ad").write_bytes(b"damaged")
    assert datasets.pancreas().shape == (40, 20)
    assert len(requests) == 2


def test_another_file_is_refused(local, monkeypatch):
    folder, _ = local
    monkeypatch.setattr(_pancreas, "PANCREAS_SHA256", "0" * 64)
    with pytest.raises(OSError, match="hash") as error:
        datasets.pancreas()
    for part in (_pancreas.PANCREAS_URL, str(folder / "cache"), "path="):
        assert part in str(error.value)
    assert not list((folder / "cache" / "jaxvelo").iterdir())


def test_no_network(local, monkeypatch):
    monkeypatch.setattr(_pancreas, "PANCREAS_URL", "http://127.0.0.1:9/data.h5ad")  # nothing listens there
    with pytest.raises(OSError, match=r"Could not download `http://127\.0\.0\.1:9/data\.h5ad`.*`path=`"):
        datasets.pancreas()


def test_pancreas_without_pooch(monkeypatch):
    monkeypatch.delenv("JAXVELO_SHARED", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "jaxvelo\[tutorial\]"'):
        datasets.pancreas()


def test_pancreas_from_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVELO_SHARED", str(tmp_path / "elsewhere"))  # the path comes first
    adata = small_pancreas()
    adata.uns["clusters_colors"] = ["#000000"] * 8
    adata.obs["clusters"] = adata.obs["clusters"].astype(str)
    adata.write_h5ad(tmp_path / "mine.h5ad")
    found = datasets.pancreas(str(tmp_path / "mine.h5ad"))
    assert list(found.uns["clusters_colors"]) == ["#000000"] * 8  # the file's own colours stay
    assert isinstance(found.obs["clusters"].dtype, pd.CategoricalDtype)


def test_missing_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5ad.*`path`"):
        datasets.pancreas(tmp_path / "nothing.h5ad")
    monkeypatch.setenv("JAXVELO_SHARED", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"pancreas_3696\.h5ad.*`JAXVELO_SHARED`"):
        datasets.pancreas()


@pytest.mark.parametrize(
    ("attribute", "key"), [("layers", "spliced"), ("layers", "unspliced"), ("obs", "clusters"), ("obsm", "X_umap")]
)
def test_incomplete_files_are_refused(tmp_path, attribute, key):
    adata = small_pancreas()
    del getattr(adata, attribute)[key]
    adata.write_h5ad(tmp_path / "incomplete.h5ad")
    with pytest.raises(ValueError, match=rf"`adata.{attribute}\['{key}'\]` in .*incomplete.h5ad"):
        datasets.pancreas(tmp_path / "incomplete.h5ad")


def test_pancreas_from_the_shared_folder(shared, monkeypatch):
    monkeypatch.setenv("JAXVELO_SHARED", str(shared))
    adata = datasets.pancreas()
    assert adata.shape == (3696, 2000)
    assert set(adata.obs["clusters"].cat.categories) == set(datasets.PANCREAS_COLORS)
    assert list(adata.uns["clusters_colors"]) == [
        datasets.PANCREAS_COLORS[name] for name in adata.obs["clusters"].cat.categories
    ]
    assert adata.obsm["X_umap"].shape == (3696, 2)
