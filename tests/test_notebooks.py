"""The notebooks run on fewer cells, and are committed with their outputs."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason='the notebooks need `pip install "jaxvelo[notebooks]"`')
nbclient = pytest.importorskip("nbclient", reason='the notebooks need `pip install "jaxvelo[notebooks]"`')

pytestmark = pytest.mark.any_precision
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == [
        "dynamics.ipynb",
        "fates.ipynb",
        "fit_kernel.ipynb",
        "rna_velocity.ipynb",
        "trends.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Jupyter's own sockets
def test_runs_on_fewer_cells(path, tmp_path, monkeypatch, request):
    if path.stem not in ("fates", "fit_kernel"):  # their programs compile longer than they run
        request.getfixturevalue("optimized")
    monkeypatch.setenv("JAXVELO_NOTEBOOK_CELLS", "300")
    if "JAXVELO_SHARED" not in os.environ:  # then the data would have to be downloaded
        monkeypatch.setenv("JAXVELO_NOTEBOOK_SIMULATED", "1")
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert "VelocityKernel[n=300, model='deterministic'" in str(code)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_with_outputs_of_a_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert "VelocityKernel[n=3696, model='deterministic', similarity='correlation'" in str(outputs)
    assert path.stat().st_size < 1.2e6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tells_nothing_about_the_machine(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        for output in cell.get("outputs", []):
            shown = str({kind: data for kind, data in output.get("data", {}).items() if kind != "image/png"})
            found = re.search(
                r"/(work|tmp|root|home|Users|usr)\b|site-packages|Warning", shown + output.get("text", "")
            )
            assert found is None, found
