"""Cells in an embedding, coloured by cluster, by a number or by a gene."""

import dataclasses
from typing import TYPE_CHECKING, Any

from ._embedding import read_positions
from ._looks import Looks, picture
from ._panels import draw_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@picture()
def scatter(
    adata: "AnnData", basis: str | None = "umap", color: Any = None, *, looks: Looks
) -> "Axes | list[Axes] | None":
    """Draw the cells in an embedding.

    Parameters
    ----------
    adata
        The cells; not changed.
    basis
        Embedding, in ``obsm[f"X_{basis}"]`` or ``obsm[basis]``; :obj:`None` for UMAP, t-SNE or PCA, the first of these
        that is there. One with exactly three columns is drawn in three dimensions, of any other the first two columns
        are drawn. Cells whose coordinates are not finite are left out.
    color
        Column of ``obs`` (groups or numbers), gene, or one colour for all cells (``c`` is the same); a column comes
        first where a gene has its name, and is said to. Or one value or colour for each cell: an array, a Series (in
        the order of its index if that names the cells) or a list; rows of colours have 3 or 4 numbers from 0 to 1, or
        integers from 0 to 255. A list of names gives a panel for each. By default ``obs["clusters"]``, or the first
        categorical column that is a clustering: one with hardly fewer levels than cells is none.
    layer
        Layer of a gene's values; ``X`` by default.
    use_raw
        Whether a gene is taken from ``raw``; by default if it is there only.
    groups
        Groups to show; cells of others are grey.
    palette
        Colours of the groups: mapping from names, sequence, or name of a colour map. By default
        ``uns[f"{color}_colors"]``, in any form that files have for colours: text, rows of RGB(A), by order or by name.
        Where these do not fit the groups (more or fewer than these, or no colours), others are taken, with a warning;
        nothing is written to ``adata``.
    cmap, vmin, vmax, perc
        Colour map of numbers (``color_map`` is the same; a list of colours works too), the numbers at its ends, and
        the percentiles of the values that they are taken from, such as ``(2, 98)``.
    sort_order
        Whether high numbers are drawn on top; in random order otherwise.
    colorbar
        Whether numbers get a colour bar.
    size
        Area of a cell in points² (``s`` is the same); fewer cells are drawn larger by default.
    alpha
        Opacity of the cells.
    components, projection
        Columns of the embedding, counted from 1, such as ``"1,3"``; ``"2d"`` or ``"3d"`` for its first two or three.
    legend_loc
        ``"right margin"`` or ``"right"``, ``"on data"`` (names at the groups' medians), ``"none"``, or a place of
        matplotlib such as ``"lower left"``. As in scVelo, all places on the right are beside the picture; as in
        CellRank, any corner or side followed by ``" out"`` is, such as ``"bottom left out"``, and with ``" in"`` none
        is. More than 120 groups are drawn without their names.
    legend_fontsize, legend_fontweight, legend_fontoutline
        Size in points and weight of the groups' names, and width of the white line around names on the data.
    title, fontsize
        Title (a list for several panels) and its size; the name of ``color`` by default, ``""`` for none.
    frameon, xlabel, ylabel
        Whether there is a frame with names of the axes; these names.
    ncols
        Number of panels in a row.
    figsize, dpi
        Size of a new figure in inches, and its resolution.
    ax
        Axes to draw on instead of a new figure; for one panel only.
    save
        File to write (any format of matplotlib; ``.png`` without an ending), below ``jaxvelo.settings.figdir`` if
        relative. It appears complete or not at all.
    show
        Whether to show the figure; by default if it is neither saved nor drawn on ``ax``.

    Returns
    -------
    Axes, list of Axes or None
        The axes if ``show=False`` or ``ax`` was given, a list if ``color`` is one; otherwise the figure is done with.

    Raises
    ------
    KeyError
        If the embedding, ``color`` or ``layer`` does not exist.
    TypeError
        If an argument does not exist.
    ValueError
        If a name is there more than once, or an argument is out of range or does not fit.
    OSError
        If ``save`` cannot be written.

    Examples
    --------
    >>> axes = jv.pl.scatter(adata, color="clusters", show=False)
    >>> axes.get_title()
    'clusters'
    >>> axes = jv.pl.scatter(adata, color=["true_time", "gene_20"], save="cells.png", show=False)
    """
    embedding = read_positions(adata, basis, looks.components, looks.projection)
    return draw_embedding(adata, embedding, dataclasses.replace(looks, color=color))
