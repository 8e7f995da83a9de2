"""What the manual is built of: `sphinx-build -W --keep-going docs docs/_build`."""

import shutil
import sys
from datetime import date
from pathlib import Path

import jaxvelo

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))
# Sphinx reads what lies in its own folder.
shutil.copytree(DOCS.parent / "notebooks", DOCS / "notebooks", dirs_exist_ok=True)

project = "jaxvelo"
author = "the jaxvelo developers"
copyright = f"{date.today():%Y}, {author}"
version = release = jaxvelo.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "formulas",
    "public_names",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Notebooks keep the outputs of a run on all cells; that they run is a test (tests/test_notebooks.py).
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autosummary_filename_map = {"jaxvelo.markov.Schur": "jaxvelo.markov.Schur-class"}  # beside the function `schur`
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = False
napoleon_attr_annotations = False
# Returns are sentences in our docstrings, not types, and are shown as they are (numpydoc takes each line for a type).
# Attributes are shown as parameters are: as variables, Sphinx would link them to whatever has their name.
napoleon_custom_sections = ["Returns", ("Attributes", "params_style")]

# A name of ours that is not found is an error. There is no network where this is built, so that names of other packages
# stay text, as do those of private classes in signatures; fields have no address of their own but their class's.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!jaxvelo\.)\w+\..*"),
    ("py:class", r"(?!jaxvelo\.).*"),
    ("py:.*", r"jaxvelo\.(annotated\.|(\w+\.)*_).*"),
    ("py:(attr|obj)", r".*"),
]

html_theme = "sphinx_book_theme"
html_title = "jaxvelo"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_theme_options = {
    "collapse_navbar": True,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
