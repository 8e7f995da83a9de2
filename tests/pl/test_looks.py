"""The arguments of a call become objects; users of CellRank, scVelo and scanpy find theirs under their names."""

import dataclasses
import inspect

import pytest

from jaxvelo import pl
from jaxvelo.pl._figure import Sheet
from jaxvelo.pl._looks import Looks, picture

pytestmark = pytest.mark.any_precision

SHEET = {"figsize", "dpi", "ax", "save", "show"}
CELLS = SHEET | {
    *("color", "layer", "use_raw", "groups", "palette", "size", "alpha", "components", "projection"),
    *("cmap", "vmin", "vmax", "perc", "sort_order", "colorbar"),
    *("legend_loc", "legend_fontsize", "legend_fontweight", "legend_fontoutline"),
    *("title", "fontsize", "frameon", "xlabel", "ylabel", "ncols"),
}
OF_CELLS = ("projection_cells", "projection_grid", "projection_stream", "random_walks", "scatter")
OTHERS = ("phase_portrait", "proportions", "single_flow", "sweep")


@pytest.mark.parametrize("name", [*OF_CELLS, *OTHERS])
def test_all_arguments_are_named(name):
    names = set(inspect.signature(getattr(pl, name)).parameters)
    assert names >= (CELLS if name in OF_CELLS else SHEET)
    assert not names & {"looks", "sheet", "legend", "scale"}


def test_objects_are_made_of_the_arguments():
    @picture(alpha=0.5, cmap="magma")
    def draw(cells, own=1, *, looks: Looks):
        return own, looks

    own, looks = draw(None, figsize=(3, 2), legend_loc=None, vmin=-1, s=4, own=None)
    assert own == 1  # None is the default, but for the legend
    assert looks.sheet.figsize == (3, 2)
    assert looks.legend.place.kind == "none"
    assert (looks.scale.vmin, looks.scale.cmap, looks.alpha, looks.size) == (-1, "magma", 0.5, 4)
    assert looks.legend.legend_fontsize is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        looks.sheet.dpi = 10
    for wrong in ({"vmin": "low"}, {"legend_fontsize": 0}, {"figsize": (0, 1)}, {"alpha": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            draw(None, **wrong)
    with pytest.raises(TypeError, match=r"among .*legend_loc.*found `sheet`"):
        draw(None, sheet=Sheet())


def test_a_size_of_the_users_own_counts():
    assert Sheet().of_size(4, 3).figsize == (4, 3)
    assert Sheet(figsize=(1, 2)).of_size(4, 3).figsize == (1, 2)
