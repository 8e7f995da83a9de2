"""Names of files: a reader guesses the file from the idea's name, and no name has two meanings."""

import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path

import pytest

import jaxvelo

pytestmark = pytest.mark.any_precision

ROOT = Path(jaxvelo.__file__).parent
PACKAGES = ["jaxvelo", *(p.name for p in pkgutil.walk_packages(jaxvelo.__path__, "jaxvelo.") if p.ispkg)]

# Names that several rooms have, and the one thing that all of them mean by it.
SHARED_NAMES = {
    "blocks": "blocks of rows or genes that are computed at a time",
    "cross_boundary": "an objective: of arrays, from keys of an AnnData",
    "fate_likelihood": "an objective: of arrays, from keys of an AnnData",
    "fate_proportions": "an objective: of arrays, from keys of an AnnData",
    "flow": "flow between clusters over experimental time: computed, drawn, a kernel's",
    "future_likelihood": "an objective: of arrays, from keys of an AnnData",
    "held_out_velocity": "an objective: of arrays, from keys of an AnnData",
    "latent_time": "the time that all genes share: of arrays, of an AnnData",
    "moments": "means and variances over neighbourhoods: of a graph, of counts, of an AnnData",
    "neighbors": "the nearest neighbours of the cells: read, computed",
    "objectives": "objectives of a fit: the room, and their public name",
    "projection": "transition matrices as arrows in an embedding: of arrays, a kernel's",
    "time_gain": "an objective: of arrays, from keys of an AnnData",
    "velocity": "RNA velocity: the tool that estimates it, the probabilities that follow from it",
    "velocity_embedding": "velocities as arrows in an embedding: computed, drawn",
    "velocity_graph": "scVelo's graph of the velocities: read, computed",
    "walks": "random walks: simulated, drawn",
}


def idea(file: Path) -> str:
    """What a file's name says, whether it is private, public or a test."""
    return file.stem.removeprefix("test").lstrip("_")


def test_one_name_one_meaning():
    files = defaultdict(list)
    for file in ROOT.rglob("*.py"):
        if file.name not in ("__init__.py", "__main__.py"):
            files[idea(file)].append(str(file.relative_to(ROOT)))
    several = {name: sorted(found) for name, found in files.items() if len(found) > 1}
    unlisted = {name: found for name, found in several.items() if name not in SHARED_NAMES}
    assert not unlisted, "rename one of them, or say what one thing both mean"


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent / "tests", ROOT.parent / "benchmarks"])
def test_names_say_what_is_inside(folder):
    assert not [file for file in folder.rglob("*.py") if idea(file) in ("utils", "helpers", "common", "misc", "core")]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_hides_a_module(package):
    """``import package.module`` gives the module, not a function or class of the same name."""
    room = importlib.import_module(package)
    for found in pkgutil.iter_modules(room.__path__, f"{package}."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            assert getattr(room, found.name.rpartition(".")[2]) is module, found.name
