"""The README's code runs as it stands there, its links lead somewhere, and its picture is the demo's."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxvelo as jv

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOR_CELLRANK_USERS, FOR_JAX_USERS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.any_precision
def test_is_read_in_a_minute():
    assert len(README.splitlines()) <= 150
    for mark in ("run", "test"):
        assert len(re.findall(f"<!-- {mark} -->\n```bash\n", README)) == 1


def anchor(heading: str) -> str:
    """Link to a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.any_precision
def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 10
    for link in links:
        name, _, part = link.partition("#")
        assert (ROOT / name).exists(), link
        if part:
            headings = re.findall(r"^#+ (.*)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), link


@pytest.mark.any_precision
def test_numbers_are_those_that_were_measured():
    """Rounded as there; the page shows them in tables of lines ``| what | number | ... |``."""
    page = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    ((_, ours, theirs, _),) = (cells for cells in lines if cells[0].startswith("`VelocityKernel` → transition matrix"))
    assert f"| {ours} | CellRank: {theirs} |" in README
    spans = []
    for method in ("jaxvelo", "scVelo"):
        cosines = [cells[2] for cells in lines if re.match("network_|dyngen|gfcp", cells[0]) and cells[1] == method]
        assert len(cosines) == 5
        spans.append(f"{min(cosines)} to {max(cosines)}")
    assert f"| {spans[0]} | scVelo's dynamical model: {spans[1]} |" in README
    seconds = float(re.search(r"1,000,000 cells: .* from counts to fates, .*?, (\S+) s\.", page)[1])
    header = next(cells for cells in lines if "1,000,000" in cells)
    in_memory = ("read layers", "velocity kernel, in memory", "velocity kernel, in memory, once more")
    steps = [
        cells for cells in lines if len(cells) == len(header) and cells[1] == "jaxvelo" and cells[0] not in in_memory
    ]
    peaks = re.findall(r"([\d.]+) GB", " ".join(cells[header.index("1,000,000")] for cells in steps))
    assert len(peaks) >= 10
    assert f"| {seconds / 60:.0f} minutes, {max(map(float, peaks)):g} GB |" in README


@pytest.mark.any_precision
def test_picture_is_small():
    """That the demo draws it is compared where the demo runs anyway: .ci/run."""
    plt = pytest.importorskip("matplotlib.pyplot", reason='pictures need `pip install "jaxvelo[tutorial]"`')
    picture = ROOT / "docs" / "demo.png"
    assert f"]({picture.relative_to(ROOT).as_posix()})" in README
    assert picture.stat().st_size < 150_000
    assert plt.imread(picture).shape[:2] == (420, 900)


@pytest.mark.any_precision
def test_for_cellrank_users(monkeypatch):
    """On simulated cells, which need no download; pictures are drawn, not shown."""
    plt = pytest.importorskip("matplotlib.pyplot", reason='pictures need `pip install "jaxvelo[tutorial]"`')
    monkeypatch.setattr(jv.datasets, "pancreas", lambda: jv.datasets.simulate(300, 60))
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names: dict = {"__name__": "tests.readme"}
    exec(FOR_CELLRANK_USERS, names)
    kernel = names["kernel"]
    assert str(kernel) == "(0.8 * VelocityKernel[n=300] + 0.2 * ConnectivityKernel[n=300])"
    assert kernel.adata.obsm["T_fwd_umap"].shape == (300, 2)
    assert kernel.adata.uns["velocity_params"]["mode"] == "dynamical"
    fates, truth = names["gpcca"].fate_probabilities, kernel.adata.obs["true_fate"]
    assert sorted(fates.names) == ["Fate A", "Fate B"]
    ends = truth.notna().to_numpy()
    assert (fates.names[fates.X.argmax(axis=1)][ends] == truth[ends]).mean() > 0.8
    assert len(shown) == 2
    plt.close("all")


def test_for_jax_users():
    names: dict = {"__name__": "tests.readme"}
    exec(FOR_JAX_USERS, names)
    gradient = names["gradient"]
    assert jnp.isfinite(names["value"])
    for part in (gradient.weights, gradient.children[0].log_scale):
        assert np.isfinite(part).all()
        assert np.any(np.asarray(part) != 0)
