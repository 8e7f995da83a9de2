"""Ctrl-C: one line, the status 130, and whole files only; sent to processes at moments that they tell themselves."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import anndata as ad
import pytest

from jaxvelo.cli._interrupts import one_interrupt
from tests.layers_on_disk import cells_on_a_ring, written

pytestmark = pytest.mark.any_precision

# What runs in the background inherits to ignore interrupts.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from jaxvelo.cli import main
sys.exit(main(sys.argv[1:]))
"""

MOMENTS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import jaxvelo as jv
from jaxvelo.annotated.layer_files import LayerFile
write = LayerFile.write

def slowly(self, cells, values, position):
    write(self, cells, values, position)
    print("block", flush=True)
    time.sleep(0.3)

if sys.argv[2] == "slowly":
    LayerFile.write = slowly
cells = jv.read(sys.argv[1], backed=True)
jv.pp.moments(cells, memory_limit="64 KiB", enforce=False)
print("done", flush=True)
"""


def interrupted(program, *arguments, after):
    """Start a process, interrupt it twice in a row once it has written a line that begins so; give what it wrote."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert any(line.startswith(after) for line in process.stdout), process.communicate()[1]
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=300)[1], process.returncode


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ("Found 150 cells", set()),
        ("Computing velocities", set()),
        ("Writing `", {"kernel.h5ad"}),
        ("Drawing `", {"kernel.h5ad", "stream.png", "grid.png", "random_walks.png", "proportions.png"}),
    ],
)
def test_an_interrupted_run_says_so_in_one_line(after, left, raw, tmp_path):
    out = tmp_path / "out"
    options = ("--no-fates", "--velocity-mode", "deterministic", "--out", out)
    before = raw.read_bytes()
    errors, status = interrupted(RUN, "run", raw, *options, after=after)
    assert status == 130
    assert errors.startswith("jaxvelo run: interrupted.")
    assert errors.count("\n") == 1
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    assert found <= left
    for name in found:
        assert f"`{out / name}`" in errors  # what is said to be written is what is there
    if "kernel.h5ad" in found:
        assert "T_fwd" in ad.read_h5ad(out / "kernel.h5ad").obsp
    assert raw.read_bytes() == before


def test_interrupted_moments_on_disk_go_on(tmp_path):
    file = written(cells_on_a_ring(n_cells=600), tmp_path / "cells.h5ad")
    before = file.read_bytes()
    _, status = interrupted(MOMENTS, file, "slowly", after="block")
    assert status != 0
    assert file.read_bytes() == before
    layers = tmp_path / "cells.layers"
    assert not [path.name for path in layers.iterdir() if not path.name.startswith(".")]
    finished = subprocess.run([sys.executable, "-c", MOMENTS, file, "fast"], capture_output=True, text=True, check=True)
    assert "Going on with `layers['Ms']`" in finished.stderr
    assert sorted(path.name for path in layers.iterdir()) == ["Ms.h5", "Mu.h5"]


def test_an_interrupt_that_is_lost_comes_again():
    """In a callback of the garbage collection, Python prints a KeyboardInterrupt and goes on."""

    class Cell:
        pass

    def callback(_):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))

    def lose_one_and_go_on():
        cell = Cell()
        reference = weakref.ref(cell, callback)
        del cell
        gc.collect()
        assert reference() is None
        for _ in range(1000):
            time.sleep(0.01)

    known = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), one_interrupt():
            lose_one_and_go_on()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with one_interrupt():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, known)


def test_interrupts_of_others_are_left_alone():
    known = signal.getsignal(signal.SIGINT)
    hook, found = sys.unraisablehook, []

    def look():
        with one_interrupt():
            found.append((signal.getsignal(signal.SIGINT), sys.unraisablehook))

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        look()
    finally:
        signal.signal(signal.SIGINT, known)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(signal.SIG_IGN, hook), (known, hook)]
