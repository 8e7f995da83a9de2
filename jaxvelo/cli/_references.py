"""The papers of the methods, and their numbers in the order in which a text cites them."""

PAPERS = {
    "bergen": (
        "Bergen V, Lange M, Peidli S, Wolf FA, Theis FJ (2020). Generalizing RNA velocity to transient cell states "
        "through dynamical modeling. Nature Biotechnology 38, 1408-1414.",
        "10.1038/s41587-020-0591-3",
    ),
    "chizat": (
        "Chizat L, Peyré G, Schmitzer B, Vialard FX (2018). Scaling algorithms for unbalanced optimal transport "
        "problems. Mathematics of Computation 87, 2563-2609.",
        "10.1090/mcom/3303",
    ),
    "cuturi": (
        "Cuturi M (2013). Sinkhorn distances: lightspeed computation of optimal transport. Advances in Neural "
        "Information Processing Systems 26, 2292-2300.",
        None,
    ),
    "eilers": (
        "Eilers PHC, Marx BD (1996). Flexible smoothing with B-splines and penalties. Statistical Science 11, 89-121.",
        "10.1214/ss/1038425655",
    ),
    "gulati": (
        "Gulati GS, Sikandar SS, Wesche DJ, et al. (2020). Single-cell transcriptional diversity is a hallmark of "
        "developmental potential. Science 367, 405-411.",
        "10.1126/science.aax0249",
    ),
    "la_manno": (
        "La Manno G, Soldatov R, Zeisel A, et al. (2018). RNA velocity of single cells. Nature 560, 494-498.",
        "10.1038/s41586-018-0414-6",
    ),
    "lange": (
        "Lange M, Bergen V, Klein M, et al. (2022). CellRank for directed single-cell fate mapping. Nature Methods 19, "
        "159-170.",
        "10.1038/s41592-021-01346-6",
    ),
    "mcinnes": (
        "McInnes L, Healy J, Saul N, Großberger L (2018). UMAP: Uniform Manifold Approximation and Projection. Journal "
        "of Open Source Software 3, 861.",
        "10.21105/joss.00861",
    ),
    "ott": (
        "Cuturi M, Meng-Papaxanthos L, Tian Y, Bunne C, Davis G, Teboul O (2022). Optimal Transport Tools (OTT): a JAX "
        "toolbox for all things Wasserstein. arXiv:2201.12324.",
        None,
    ),
    "reuter_2018": (
        "Reuter B, Weber M, Fackeldey K, Röblitz S, Garcia ME (2018). Generalized Markov state modeling method for "
        "nonequilibrium biomolecular dynamics: exemplified on amyloid β conformational dynamics driven by an "
        "oscillating electric field. Journal of Chemical Theory and Computation 14, 3579-3594.",
        "10.1021/acs.jctc.8b00079",
    ),
    "reuter_2019": (
        "Reuter B, Fackeldey K, Weber M (2019). Generalized Markov modeling of nonreversible molecular kinetics. "
        "Journal of Chemical Physics 150, 174103.",
        "10.1063/1.5064530",
    ),
    "roeblitz": (
        "Röblitz S, Weber M (2013). Fuzzy spectral clustering by PCCA+: application to Markov state models and data "
        "classification. Advances in Data Analysis and Classification 7, 147-179.",
        "10.1007/s11634-013-0134-6",
    ),
    "satija": (
        "Satija R, Farrell JA, Gennert D, Schier AF, Regev A (2015). Spatial reconstruction of single-cell gene "
        "expression data. Nature Biotechnology 33, 495-502.",
        "10.1038/nbt.3192",
    ),
    "schiebinger": (
        "Schiebinger G, Shu J, Tabaka M, et al. (2019). Optimal-transport analysis of single-cell gene expression "
        "identifies developmental trajectories in reprogramming. Cell 176, 928-943.",
        "10.1016/j.cell.2019.01.006",
    ),
    "setty": (
        "Setty M, Kiseliovas V, Levine J, Gayoso A, Mazutis L, Pe'er D (2019). Characterization of cell fate "
        "probabilities in single-cell data with Palantir. Nature Biotechnology 37, 451-460.",
        "10.1038/s41587-019-0068-4",
    ),
    "stassen": (
        "Stassen SV, Yip GGK, Wong KKY, Ho JWK, Tsia KK (2021). Generalized and scalable trajectory inference in "
        "single-cell omics data with VIA. Nature Communications 12, 5528.",
        "10.1038/s41467-021-25773-3",
    ),
    "virshup": (
        "Virshup I, Rybakov S, Theis FJ, Angerer P, Wolf FA (2024). anndata: access and store annotated data matrices. "
        "Journal of Open Source Software 9, 4371.",
        "10.21105/joss.04371",
    ),
    "weiler": (
        "Weiler P, Lange M, Klein M, Pe'er D, Theis F (2024). CellRank 2: unified fate mapping in multiview "
        "single-cell data. Nature Methods 21, 1196-1205.",
        "10.1038/s41592-024-02303-9",
    ),
    "wolf": (
        "Wolf FA, Angerer P, Theis FJ (2018). SCANPY: large-scale single-cell gene expression data analysis. Genome "
        "Biology 19, 15.",
        "10.1186/s13059-017-1382-0",
    ),
    "wood": (
        "Wood SN (2011). Fast stable restricted maximum likelihood and marginal likelihood estimation of "
        "semiparametric generalized linear models. Journal of the Royal Statistical Society B 73, 3-36.",
        "10.1111/j.1467-9868.2010.00749.x",
    ),
}
"""Reference and DOI of each paper; None where it has none."""


class Citations:
    """Numbers of the papers that a text cites: a call gives those of some, such as ``"[1, 3]"``."""

    def __init__(self) -> None:
        self._cited: list[str] = []

    def __call__(self, *papers: str) -> str:
        for paper in papers:
            if paper not in self._cited:
                self._cited.append(paper)
        numbers = sorted(1 + self._cited.index(paper) for paper in papers)
        return f"[{', '.join(map(str, numbers))}]"

    def references(self) -> list[tuple[str, str | None]]:
        """Give reference and DOI of what has been cited, by number."""
        return [PAPERS[paper] for paper in self._cited]
