"""Cells to make kernels of: a few that are made here, and the data with reference results."""

import anndata
import pytest

from tests.bent_line import make_cells


@pytest.fixture(scope="session")
def made() -> anndata.AnnData:
    return make_cells()


@pytest.fixture
def cells(made) -> anndata.AnnData:
    """Cells that a test may change."""
    return made.copy()


@pytest.fixture(scope="session")
def small(shared) -> anndata.AnnData:
    return anndata.read_h5ad(shared / "reference" / "small_velocity.h5ad")


@pytest.fixture(scope="session")
def pancreas(shared) -> anndata.AnnData:
    return anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")
