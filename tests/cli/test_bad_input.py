"""Bad input is told in one line, and nothing of the user's is touched."""

import re
import sys

import anndata as ad
import h5py
import numpy as np
import pytest

from jaxvelo.cli import main
from tests.cli.conftest import Outcome, checksum

pytestmark = [pytest.mark.any_precision, pytest.mark.usefixtures("optimized")]


def without_counts(adata, path):
    del adata.layers["spliced"]
    adata.write_h5ad(path)


def velocity_alone(adata, path):
    adata.layers["velocity"] = adata.layers.pop("unspliced").toarray()
    del adata.layers["spliced"]
    adata.write_h5ad(path)


def velocity_without_graph(adata, path):
    adata.layers["velocity"] = adata.layers.pop("unspliced").toarray()
    adata.layers["Ms"] = adata.layers.pop("spliced").toarray()
    adata.write_h5ad(path)


def negative_counts(adata, path):
    adata.layers["spliced"].data[0] = -1
    adata.write_h5ad(path)


def negative_graph(adata, path):
    velocity_without_graph(adata, path)
    adata.obsp["connectivities"] = -np.eye(adata.n_obs)
    adata.write_h5ad(path)


def few_cells(adata, path):
    adata[:4].copy().write_h5ad(path)


def measured_clusters(adata, path):
    adata.obs["clusters"] = np.linspace(0, 1, adata.n_obs)
    adata.write_h5ad(path)


def truncated(adata, path):
    path.write_bytes(path.read_bytes()[:3000])


def text(adata, path):
    path.write_text("cell,gene\n")


def other_hdf5(adata, path):
    with h5py.File(path, "w") as file:
        file["matrix"] = np.zeros(3)


def folder(adata, path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda adata, path: path.unlink(), [], r"There is no file `.*cells\.h5ad`"),
        (folder, [], "found the folder"),
        (text, [], "no HDF5 file"),
        (other_hdf5, [], r"Expected a file in h5ad format with `obs` and `var`, found \['matrix'\]"),
        (truncated, [], "Could not read|no HDF5 file|truncated"),
        (
            without_counts,
            [],
            r"Expected counts in the layers 'spliced' and 'unspliced', or velocities.*\['unspliced'\]",
        ),
        (velocity_alone, [], r"expression that belongs to the velocities in `layers\['Ms'\]`"),
        (velocity_without_graph, [], r"Expected neighbours in `obsp\['connectivities'\]`"),
        (negative_counts, [], r"at least zero in `adata\.layers\['spliced'\]`, found 1 negative"),
        (negative_graph, [], "Expected non-negative weights in .*connectivities"),
        (few_cells, [], "Expected at least 10 cells, found 4"),
        (
            measured_clusters,
            ["--cluster-key", "clusters"],
            r"Expected clusters in `obs\['clusters'\]`, found numbers of type float64",
        ),
        (
            None,
            ["--cluster-key", "leiden"],
            r"Expected clusters in `obs\['leiden'\]`, found the columns \['clusters'\]",
        ),
        (None, ["--basis", "tsne"], r"Expected an embedding in `obsm\['X_tsne'\]`, found \['X_umap'\]"),
        (None, ["--vkey", "speed"], r"Expected velocities in `layers\['speed'\]`, found the layers \['spliced'"),
        (None, ["--xkey", "imputed"], r"Expected expression in `layers\['imputed'\]`"),
        (None, ["--start", "Root"], r"Expected --start to be a cluster, found `Root`. There are \['Progenitor'"),
        (None, ["--weight", "1.5"], "argument --weight: expected a number above 0 and up to 1, found `1.5`"),
        (None, ["--weight", "0"], "argument --weight: expected a number above 0 and up to 1, found `0`"),
        (None, ["--weight", "nan"], "argument --weight"),
        (None, ["--weight", "half"], "argument --weight: .* found `half`"),
        (None, ["--softmax-scale", "-1"], "argument --softmax-scale: expected a positive number, found `-1`"),
        (None, ["--n-top-genes", "0"], "argument --n-top-genes: expected a positive whole number, found `0`"),
        (None, ["--seed", "-3"], "argument --seed: expected a whole number"),
        (None, ["--velocity-mode", "steady"], "argument --velocity-mode: invalid choice: 'steady'"),
        (None, ["--model", "dynamical"], "argument --model: invalid choice: 'dynamical'"),
        (None, ["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_input_is_told_in_one_line(spoil, options, message, raw, tmp_path, capsys):
    if spoil is not None:
        spoil(ad.read_h5ad(raw), raw)
    out = tmp_path / "out"
    result = Outcome(
        main(["run", "--no-fates", str(raw), *options, "--out", str(out)]), capsys.readouterr(), raw.parent
    )
    assert result.status == 2
    assert re.fullmatch(r"jaxvelo( run)?: error: [^\n]+\n", result.err)
    assert re.search(message, result.err)
    assert "Traceback" not in result.out
    assert not list(out.glob("*"))


def test_commands_are_required_and_known(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err
    assert main(["walk"]) == 2
    assert "invalid choice: 'walk'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "run"])
def test_folder_that_cannot_be_written(command, raw, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    arguments = [command] if command == "demo" else [command, str(raw)]
    result = Outcome(main([*arguments, "--out", str(out)]), capsys.readouterr(), raw.parent)
    assert result.status == 2
    assert result.err == (
        f"jaxvelo {command}: error: Cannot write to the folder `{out}`: Not a directory. Choose another one as --out.\n"
    )


def test_own_file_is_never_replaced(raw, capsys):
    file = raw.rename(raw.with_name("kernel.h5ad"))
    before = checksum(file)
    result = Outcome(
        main(["run", "--no-fates", str(file), "--out", str(file.parent)]), capsys.readouterr(), file.parent
    )
    assert result.status == 2
    assert "would be replaced by the result" in result.err
    assert checksum(file) == before


@pytest.mark.parametrize("missing", ["scanpy", "matplotlib"])
def test_missing_extra_is_named(missing, raw, tmp_path, capsys, monkeypatch):
    """Of scanpy, only the UMAP is needed, and only where there is no embedding."""
    adata = ad.read_h5ad(raw)
    del adata.obsm["X_umap"]
    adata.write_h5ad(raw)
    monkeypatch.setitem(sys.modules, missing, None)
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--out", str(tmp_path / "out")]), capsys.readouterr(), raw.parent
    )
    assert result.status == 2
    assert re.search(missing + r'.* Install it: pip install "jaxvelo\[tutorial\]"', result.err)
    assert not (tmp_path / "out").exists()


def test_verbose_shows_where_an_error_came_from(raw, capsys):
    result = Outcome(
        main(["run", "--no-fates", str(raw), "--cluster-key", "leiden", "--verbose"]), capsys.readouterr(), raw.parent
    )
    assert result.status == 2
    assert "Traceback" in result.out
    assert result.err.count("\n") == 1
