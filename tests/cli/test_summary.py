"""``summary.md`` and ``report.html``: they tell what ran, with its numbers and papers, and nothing else."""

import base64
import dataclasses
import re
import sys

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from jaxvelo.cli import _run, _written_summary, main
from jaxvelo.cli._doubtful_results import doubtful_results
from jaxvelo.cli._markdown import escaped, table
from jaxvelo.cli._methods_section import methods
from jaxvelo.cli._references import PAPERS, Citations
from jaxvelo.kernels import VelocityKernel
from tests.cli.conftest import STOCHASTIC, raw_counts

pytestmark = pytest.mark.any_precision
ODD = "A|*odd* <b>_name_</b>"


def run_on(cells, folder, *options):
    """Run the command; give its status and the account that the summary was written from."""
    cells.write_h5ad(folder / "cells.h5ad")
    accounts = []

    def write(account, out, written):
        accounts.append(account)
        _written_summary.write_summary(account, out, written)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run, "write_summary", write)
        status = main(["run", str(folder / "cells.h5ad"), "--quiet", "--out", str(folder / "out"), *options])
    assert status == 0
    (account,) = accounts
    return account


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder, account and summary of a run with velocities; one of the clusters has an odd name."""
    folder = tmp_path_factory.mktemp("told")
    cells = raw_counts()
    cells.obs["clusters"] = cells.obs["clusters"].cat.rename_categories({"Fate A": ODD})
    account = run_on(cells, folder, *STOCHASTIC, "--report", "--seed", "7")
    return folder / "out", account, (folder / "out" / "summary.md").read_text()


def part(text, title):
    return text[text.index(f"## {title}\n") :].split("\n## ")[0]


def parameters(text):
    """Rows of the table, as (step, parameter): value."""
    rows = [line.strip("| ").split(" | ") for line in part(text, "Parameters").splitlines() if line.startswith("|")]
    return {(step, name): value for step, name, value in rows}


def test_each_picture_is_shown_once(told):
    folder, _, text = told
    shown = re.findall(r"!\[[^\n]*\]\(([^)]+)\)", text)
    assert sorted(shown) == sorted(path.name for path in folder.glob("*.png"))
    assert len(shown) >= 8


def test_parameters_are_those_that_were_used(told):
    _, account, text = told
    found = parameters(text)
    assert found["velocities", "model"] == "stochastic"
    assert found["all steps", "seed"] == "7"
    assert int(found["velocities", "velocity genes"]) == account.adata.var["velocity_genes"].sum()
    scale = account.kernel.kernels[0].params["softmax_scale"]
    assert float(found["VelocityKernel", r"softmax_scale"]) == pytest.approx(scale, rel=1e-5)
    assert found["counts", "cells brought to the same size"] == "yes"
    assert (found["cells", "genes"], found["counts", "genes kept"]) == ("60", str(account.adata.n_vars))
    assert int(found["neighbours", "n_neighbors"]) == account.adata.uns["neighbors"]["params"]["n_neighbors"]
    assert found["macrostates", "n_states"] == str(len(account.estimator.macrostates.cat.categories))


def test_what_is_cited_is_listed_in_the_order_of_the_text(told):
    text = part(told[2], "For the methods section").replace("\\", "")
    cited = [int(n) for numbers in re.findall(r"\[(\d+(?:, \d+)*)\]", text) for n in numbers.split(", ")]
    listed = [int(n) for n in re.findall(r"^(\d+)\. ", text, flags=re.M)]
    assert list(dict.fromkeys(cited)) == listed == list(range(1, len(listed) + 1))
    for paper in ("bergen", "lange", "reuter_2018", "roeblitz"):
        assert PAPERS[paper][1] in text
    for paper in ("gulati", "wolf", "schiebinger", "eilers", "setty"):  # nothing of theirs ran
        assert PAPERS[paper][1] not in text


def test_numbers_of_the_methods_are_those_of_the_run(told):
    _, account, text = told
    scale, genes = account.kernel.kernels[0].params["softmax_scale"], account.adata.var["velocity_genes"].sum()
    text = part(text, "For the methods section")
    assert "by the stochastic steady-state model" in text
    assert f"{genes} velocity genes were used" in text
    assert f"with the scale {scale:.3g}, one over the median similarity" in text
    assert "with weights 0.8 and 0.2" in text
    assert "Counts were scaled to the median number of counts of a cell" in text


def test_the_page_has_all_inside(told):
    folder, _, _ = told
    page = (folder / "report.html").read_text()
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert sorted(pictures) == sorted(path.read_bytes() for path in folder.glob("*.png"))
    assert len(re.findall(r"<(?:img|script|link|iframe|object)\b|url\(|@import", page)) == len(pictures)
    assert "A|*odd* &lt;b&gt;_name_&lt;/b&gt;" in page  # and no mark or tag of its own
    assert page.startswith("<!DOCTYPE html>")
    assert not list(folder.glob(".*"))


def test_the_warnings_of_the_run_are_doubts(tmp_path):
    account = run_on(raw_counts()[:, :9].copy(), tmp_path, "--no-fates")
    text = part((tmp_path / "out" / "summary.md").read_text(), "What to doubt")
    assert any("taking the stochastic model instead" in warning for warning in account.warnings)
    assert "The run warned:\n\n- " in text
    assert "taking the stochastic model instead" in text
    assert "by the stochastic steady-state model" in (tmp_path / "out" / "summary.md").read_text()
    assert not (tmp_path / "out" / "report.html").exists()


def test_along_a_pseudotime(tmp_path):
    cells = raw_counts()
    cells.X = cells.layers["spliced"]
    del cells.layers["unspliced"], cells.layers["spliced"]
    account = run_on(cells, tmp_path)
    text = (tmp_path / "out" / "summary.md").read_text()
    for paper in ("gulati", "stassen", "weiler", "eilers", "wood"):
        assert PAPERS[paper][1] in text
    assert "softmax" not in text
    assert "RNA velocit" not in part(text, "For the methods section").split("1. ")[0]
    assert "The direction rests on CytoTRACE" in text
    assert f"Expression of {len(account.trends.genes)} genes" in text
    # The same words for another kind of time.
    given = dataclasses.replace(account, plan=dataclasses.replace(account.plan, time="pseudotime"), time_key="dpt")
    assert PAPERS["gulati"][1] not in methods_and_references(given)
    assert PAPERS["setty"][1] in methods_and_references(given)


def methods_and_references(account):
    cite = Citations()
    return methods(account, cite) + str(cite.references())


def changed(account, **columns):
    """The account with other columns of ``var``."""
    account = dataclasses.replace(account, mode="dynamical")
    adata = account.adata.copy()
    for name, value in columns.items():
        adata.var[name] = value
    return with_cells(account, adata)


class Cells:
    """A kernel of the same numbers with other cells."""

    def __init__(self, kernel, adata):
        self.kernels, self.adata = kernel.kernels, adata


def with_cells(account, adata):
    return dataclasses.replace(account, kernel=Cells(account.kernel, adata))


def test_doubts_of_few_cells_and_genes(told):
    doubts = "\n".join(doubtful_results(told[1]))
    assert "There are 150 cells only" in doubts
    n_genes = told[1].adata.var["velocity_genes"].sum()
    assert 10 < n_genes < 100
    assert f"Velocities are of {n_genes} genes only" in doubts
    assert "Fate probabilities are off by at most 1e-06" in doubts


def test_doubts_of_a_fit(told):
    n_genes = told[1].adata.var["velocity_genes"].sum()
    good = doubtful_results(changed(told[1], fit_status="converged", fit_residual=0.1))
    assert not [doubt for doubt in good if "unsure" in doubt or "far from" in doubt]
    bad = "\n".join(doubtful_results(changed(told[1], fit_status="at a bound", fit_residual=0.9)))
    assert f"The fits of {n_genes} of the {n_genes} velocity genes are unsure ({n_genes} at a bound)" in bad
    assert f"far from the fitted curves of {n_genes} of the {n_genes}" in bad
    account = changed(told[1])
    account.adata.varm["fit_evidence"] = np.full((account.adata.n_vars, 5), 0.2)
    assert any("no model of transcription is clearly the best" in doubt for doubt in doubtful_results(account))
    account.adata.varm["fit_evidence"][:] = [0.9, 0.1, 0, 0, 0]
    assert not any("clearly the best" in doubt for doubt in doubtful_results(account))


def test_doubts_of_counts_and_velocities(told):
    account = told[1]
    adata = account.adata.copy()
    adata.obs["initial_size_unspliced"] = 1e-3 * adata.obs["initial_size_spliced"]
    assert any("0% of the counts are unspliced" in doubt for doubt in doubtful_results(with_cells(account, adata)))
    assert not any("of the counts are unspliced" in doubt for doubt in doubtful_results(account))
    assert not any("agree little" in doubt for doubt in doubtful_results(account))
    cells = account.adata.copy()
    cells.layers["velocity"] = np.random.default_rng(0).normal(size=cells.shape).astype(np.float32)
    noisy = Cells(account.kernel, cells)
    noisy.kernels = (VelocityKernel(cells),)
    found = doubtful_results(dataclasses.replace(account, kernel=noisy))
    (coherence,) = (
        float(re.search(r"agree little: their mean correlation is (\S+)\.", x)[1]) for x in found if "agree" in x
    )
    assert abs(coherence) < 0.05


class Found:
    """What the doubts read of an estimator."""

    def __init__(self, values, fates, names):
        self.macrostates = pd.Series(pd.Categorical(names))
        self.eigendecomposition = {"D": np.array(values)}
        self.fate_probabilities = type("Fates", (), {"names": names, "X": np.array(fates)})()
        self.params = {"fate_probabilities": {"tol": 1e-4}}
        self.lineage_drivers = None


def test_doubts_of_states_and_fates(told):
    def doubts(*found):
        return "\n".join(doubtful_results(dataclasses.replace(told[1], estimator=Found(*found))))

    clear = doubts([1, 0.99, 0.5, 0.4], [[0.9, 0.1], [0.1, 0.9]], ["A", "B"])
    for words in ("gap of the eigenvalues", "same cluster", "Hardly any", "undecided"):
        assert words not in clear
    unclear = doubts([1, 0.99, 0.985, 0.4], [[0.5, 0.5, 0], [0.5, 0.5, 0]], ["A_1", "A_2", "C"])
    assert "gap of the eigenvalues" not in unclear  # behind the third one it is wide
    assert "same cluster (A)" in unclear
    assert "Hardly any cell goes to C (" in unclear
    assert "100% of the cells are undecided" in unclear
    assert "narrow (0.9900 to 0.9850)" in doubts([1, 0.99, 0.985, 0.4], [[0.9, 0.1]], ["A", "B"])


@pytest.mark.parametrize(
    "name",
    [
        ODD,
        "a_b",
        "_a_",
        "**bold**",
        "`code",
        "a `x|y` b",
        "[link](http://x)",
        "![i](x.png)",
        "<script>",
        "1 * 2 * 3",
        "~~x~~",
    ],
)
def test_names_are_shown_as_they_are(name):
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    for text in (f"x {escaped(name)} x", table(("head",), [(name,)])):
        page = parser.render(text)
        shown = re.sub(r"</?(?:p|table|thead|tbody|tr|th|td|code)>", "", page)
        shown = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
        assert (name.replace("`", "") if name.count("`") == 2 else name) in shown


def test_a_report_needs_its_library(raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    assert main(["run", str(raw), "--report", "--out", str(tmp_path / "out")]) == 2
    assert 'pip install "jaxvelo[tutorial]"; or leave out --report' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_summary_that_fails_is_a_warning(cells, run, monkeypatch):
    def fail(*_):
        raise TypeError("no summary")

    monkeypatch.setattr(_written_summary, "summary", fail)
    result = run(cells, *STOCHASTIC).succeeded()
    assert "WARNING: Could not write the summary of the run: TypeError: no summary" in result.out
    assert "summary.md" not in result.files
