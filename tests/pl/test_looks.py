"""The arguments of a call become objects; users of CellRank, scVelo and scanpy find theirs under their names."""

import dataclasses
import inspect

import pytest

from jaxvelo import pl
from jaxvelo.pl._figure import Sheet
from jaxvelo.pl._legend import Legend
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


@pytest.mark.parametrize("name", [*OF_CELLS, *OTHERS, "fit"])
def test_all_arguments_have_types(name):
    signature = inspect.signature(getattr(pl, name))
    assert not [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert signature.return_annotation is not signature.empty


def test_types_are_those_of_the_fields():
    parameters = inspect.signature(pl.scatter).parameters
    for kind, names in ((Looks, ("alpha", "ncols", "title")), (Sheet, ("figsize", "ax", "save", "show"))):
        fields = {field.name: field for field in dataclasses.fields(kind)}
        assert all(parameters[name].annotation == fields[name].type for name in names)


def test_a_text_is_no_class_of_looks():
    """It would make one argument of what should be many."""
    future = """
from __future__ import annotations
from jaxvelo.pl._looks import Looks, picture

@picture()
def draw(cells: AnnData, *, looks: Looks): ...
"""
    with pytest.raises(TypeError, match=r"`looks` of `draw` to be a class, found the text 'Looks'.*__future__"):
        exec(future, {"__name__": "future"})

    def quoted(cells, *, sheet: "Sheet"): ...

    with pytest.raises(TypeError, match=r"`sheet` of .*quoted` to be a class, found the text 'Sheet'"):
        picture()(quoted)

    @dataclasses.dataclass
    class Part:
        legend: "Legend" = None

    def parted(cells, *, part: Part): ...

    with pytest.raises(TypeError, match=r"`legend` of .*Part` to be a class"):
        picture()(parted)


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
