"""Formulas as MathML, which browsers draw by themselves: pages need no script, and no network."""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
latex_to_mathml = LatexToMathML()


def mathml(self, node: nodes.Element, is_display: bool) -> str:
    """Convert the formula of a node; one that is no LaTeX is a warning with the place where it stands."""
    latex = node.astext().strip()
    if is_display and r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    try:
        return latex_to_mathml.convert_with_local_state(latex, displaystyle=is_display)
    except LatexError as error:
        logger.warning("no formula: %s\n%s", latex, error, location=node)
        return f"<code>{self.encode(latex)}</code>"


def visit_math(self, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(f'<span class="math">{mathml(self, node, is_display=False)}</span>')
    raise nodes.SkipNode


def visit_displaymath(self, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    self.body.append(f'<div class="math">{mathml(self, node, is_display=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add what `html_math_renderer = "mathml"` names."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
