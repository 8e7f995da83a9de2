"""Bars are shown in a terminal and in a notebook, and leave nothing in log files."""

import contextlib
import io
import re
import sys

import pytest
from tqdm.notebook import tqdm_notebook

import jaxvelo as jv
from jaxvelo.annotated import progress_bar as module
from jaxvelo.annotated.progress_bar import bars, progress_bar, watched
from jaxvelo.configuration import LogHandler, logger
from tests.layers_on_disk import cells_on_a_ring, written

pytestmark = pytest.mark.any_precision


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0)


def shown(function, stream=None):
    """What a function shows in a terminal, or writes to another stream."""
    stream = Terminal() if stream is None else stream
    with contextlib.redirect_stderr(stream):
        function()
    return stream.getvalue()


def count(**options):
    assert list(watched(range(3), 3, "Counting", "cells", **options)) == [0, 1, 2]


def test_a_bar_in_a_terminal():
    bar = shown(count)
    assert "Counting" in bar
    assert "cells/s" in bar
    assert bar.endswith("\r")  # and it goes away


def test_log_lines_have_lines_of_their_own():
    def count_and_tell():
        handler.setStream(sys.stderr)
        for i in watched(range(3), 3, "Counting", "cells"):
            logger.warning("A line %d", i)

    (handler,) = (handler for handler in logger.handlers if isinstance(handler, LogHandler))
    known = handler.stream
    try:
        lines = shown(count_and_tell).split("\n")
    finally:
        handler.setStream(known)
    assert [line.rpartition("\r")[2] for line in lines[:3]] == [f"WARNING: A line {i}" for i in range(3)]


def test_no_bar_in_a_file():
    assert shown(count, io.StringIO()) == ""


def test_no_bar_for_those_who_want_none(monkeypatch):
    def within(*wanted):
        with contextlib.ExitStack() as stack:
            for each in wanted:
                stack.enter_context(bars(each))
            count()

    assert shown(lambda: count(shown=False)) == ""
    assert shown(lambda: within(False)) == ""
    assert shown(lambda: within(False, True)) == ""  # what is within does not know better
    assert "Counting" in shown(lambda: within(None))
    monkeypatch.setattr(jv.settings, "verbosity", "warning")
    assert shown(count) == ""


def test_what_takes_no_time_has_no_bar(monkeypatch):
    monkeypatch.setattr(module, "DELAY", 60)
    assert shown(count) == ""


def test_a_bar_in_a_notebook(monkeypatch):
    """Its stream is no terminal, and widgets are shown all the same."""
    asked = []

    class Widget(tqdm_notebook):
        def __init__(self, *_, disable, **__):
            self.disable = True  # there is no widget to close
            asked.append(disable)

    monkeypatch.setattr(module, "tqdm", Widget)
    progress_bar(3, "Counting", "cells")
    progress_bar(3, "Counting", "cells", shown=False)
    assert asked == [False, True]


def test_layers_on_disk_have_bars_of_their_cells(tmp_path):
    cells = jv.read(written(cells_on_a_ring(n_cells=300), tmp_path / "cells.h5ad"), backed=True)
    bar = shown(lambda: jv.pp.moments(cells, memory_limit="64 KiB", enforce=False))
    assert "Moments, adata.layers['spliced']: 0%" in re.sub(" +", " ", bar)
    assert "/300 [" in bar


@pytest.mark.parametrize("wanted", [None, False])
def test_a_kernel_of_layers_on_disk_has_a_bar(wanted, tmp_path):
    cells = cells_on_a_ring(n_cells=300)
    cells.layers["Ms"], cells.layers["velocity"] = cells.layers["spliced"], cells.layers["unspliced"]
    cells = jv.read(written(cells, tmp_path / "cells.h5ad"), backed=True)
    options = {} if wanted is None else {"show_progress_bar": wanted}
    kernel = jv.kernels.VelocityKernel(cells)
    bar = shown(lambda: kernel.compute_transition_matrix(memory_limit="256 KiB", **options))
    assert ("Transitions:" in bar) == (wanted is None)
    assert ("/300 [" in bar) == (wanted is None)
