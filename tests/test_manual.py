"""The manual's code runs as it stands there, and none of it is left out."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from anndata import AnnData

import jaxvelo as jv
from tests.fitting.known_fates import make_known
from tests.trend_cells import trend_cells

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    str(path.relative_to(DOCS)): re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    for path in sorted(DOCS.rglob("*.md"))
    if "notebooks" not in path.parts
}
*START, READING = PAGES["getting_started.md"]
*CELLRANK, TRENDS = PAGES["coming_from_cellrank.md"]
(SCVELO,) = PAGES["coming_from_scvelo.md"]
GRADIENT, KINETICS = PAGES["for_jax_users.md"]
(FITTED,) = PAGES["how_it_works/fit.md"]


@pytest.fixture
def shown(monkeypatch):
    """Pictures are drawn, not shown."""
    plt = pytest.importorskip("matplotlib.pyplot", reason='pictures need `pip install "jaxvelo[tutorial]"`')
    figures: list = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    plt.close("all")


def run(code: str, **names) -> dict:
    """Run code, and return all names."""
    names["__name__"] = "tests.manual"
    exec(code, names)
    return names


def test_all_code_is_run():
    """Pages with code to run are those above; other code says that it is not run."""
    pages = {"getting_started.md", "coming_from_cellrank.md", "coming_from_scvelo.md", "for_jax_users.md"}
    assert {page for page, code in PAGES.items() if code} == {*pages, "how_it_works/fit.md"}
    examples = {path.name for path in (DOCS.parent / "tests" / "examples").glob("*.py")} - {"__init__.py"}
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES if page.startswith("contributing/"))
    assert set(re.findall(r"tests/examples/(\w+\.py)", text)) == examples


@pytest.mark.any_precision
def test_getting_started_and_coming_from_cellrank(shown):
    """One script: the second page goes on with the cells of the first."""
    names = run("\n".join(START))
    adata = names["adata"]
    assert str(names["kernel"]) == "(0.8 * VelocityKernel[n=300] + 0.2 * ConnectivityKernel[n=300])"
    assert adata.uns["velocity_params"]["mode"] == "dynamical"
    assert adata.obsm["T_fwd_umap"].shape == (300, 2)
    assert len(shown) == 3

    names = run("\n".join(CELLRANK).replace("seed=0", "seed=0, n_samples=5"), adata=adata)
    assert sorted(names["names"]) == ["Fate A", "Fate B"]
    fates, truth = names["gpcca"].fate_probabilities, adata.obs["true_fate"]
    ends = truth.notna().to_numpy()
    assert (fates.names[fates.X.argmax(axis=1)][ends] == truth[ends]).mean() > 0.8
    assert names["gradient"].score.shape[1] == 2
    assert (names["uncertain"].lower <= names["uncertain"].upper).all()
    assert "terminal_lineage_drivers" in adata.varm
    assert len(shown) == 4


@pytest.mark.any_precision
def test_coming_from_scvelo(shown):
    adata = run(SCVELO)["adata"]
    known = adata.obs["true_time"].corr(adata.obs["latent_time"], method="spearman")
    assert known > 0.8
    assert {"velocity_graph", "velocity_confidence", "rank_velocity_genes"} <= {*adata.uns, *adata.obs}
    assert len(shown) == 2


@pytest.mark.any_precision
def test_reading(monkeypatch, tmp_path):
    """Counts of velocyto, whose cells are named by sample and barcode, come to a file without counts."""
    loompy = pytest.importorskip("loompy", reason='loom files need `pip install "jaxvelo[loom]"`')
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    barcodes = ["".join(row) for row in rng.choice(list("ACGT"), (30, 16))]
    spliced, unspliced = rng.poisson(2.0, (2, 30, 20))
    loompy.create(
        "velocyto.loom",
        {"": spliced.T, "spliced": spliced.T, "unspliced": unspliced.T},
        {"Gene": np.array([f"gene {i}" for i in range(20)])},
        {"CellID": np.array([f"sample:{barcode}x" for barcode in barcodes])},
    )
    processed = AnnData(rng.random((30, 20), dtype=np.float32))
    processed.obs_names, processed.var_names = [f"{b}-1" for b in barcodes], [f"gene {i}" for i in range(20)]
    processed[::-1].copy().write_h5ad("processed.h5ad")
    adata = run(READING)["adata"]
    np.testing.assert_array_equal(adata.layers["unspliced"].toarray(), unspliced[::-1])


@pytest.mark.any_precision
def test_trends(shown):
    """Tables and pictures of genes with the names that stand there."""
    adata = trend_cells()
    adata.var_names = ["Ins2", "Gcg", "Neurog3", "Sox9", "Pyy", "Ghrl"]
    adata.obs["term_states_fwd"] = adata.obs["term_states_fwd"].cat.rename_categories(["Alpha", "Beta"])
    names = run(TRENDS, adata=adata, genes=list(adata.var_names))
    assert len(names["trends"].to_frame()) == 12
    assert len(shown) == 3


@pytest.mark.any_precision
def test_fitted(shown):
    """On cells whose fates are known; a few steps are enough to see that it runs."""
    adata = make_known()
    kernel = 0.8 * jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    kernel = kernel + 0.2 * jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    names = run(FITTED.replace("seed=0", "seed=0, steps=3, progress=False"), adata=adata, kernel=kernel)
    assert names["result"].scores["training"] < names["result"].scores["training_convention"]
    assert "gene_weights=" in repr(names["better"])
    assert "T_fitted" in adata.obsp
    assert "T_fitted_fit" in adata.uns
    assert len(shown) == 2


@pytest.mark.any_precision
def test_gradient_of_a_transition_function():
    names = run(GRADIENT)
    assert jnp.isfinite(names["value"])
    for part in (names["gradient"].weights, names["gradient"].children[0].log_scale):
        assert np.isfinite(part).all()
        assert np.any(np.asarray(part) != 0)


def test_gradient_of_kinetics():
    gradient = run(KINETICS)["gradient"]
    for part in (gradient.alpha, gradient.beta, gradient.gamma, gradient.switching_time):
        assert np.isfinite(part).all()
        assert np.all(np.asarray(part) != 0)
