"""Cells that several files of tests look at."""

import pytest

from tests.annotated.six_cells import six_cells


@pytest.fixture
def adata():
    return six_cells()
