"""The site, as Sphinx builds it: ``make docs``.

The pages are ``docs/*.md``, which read as well where they lie, and the reference, which is the docstrings. Nothing is
fetched, neither for the build nor by a page.
"""

import sys
from pathlib import Path

from ipstore import __version__

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "ipstore"
author = "the authors of ipstore"
version = release = __version__
html_title = f"ipstore {__version__}"
html_show_copyright = False

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "between_pages",
    "command_help",
    "docstrings",
    "estimator_list",
]
exclude_patterns = ["_build", "site"]

# Docstrings ---------------------------------------------------------------------

default_role = "py:obj"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections of a docstring say more: dimensions and units
add_module_names = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_maximum_signature_line_length = 220
toc_object_entries_show_parents = "hide"

# With -n a reference that leads nowhere is an error. What is not ours cannot be held to that without fetching the
# inventories of other projects; and in docstrings single backticks also stand for parameters, variables and commands.
nitpick_ignore_regex = [("py:.*", r"(?!ipstore\b).*")]

# Pages --------------------------------------------------------------------------

myst_heading_anchors = 3
myst_enable_extensions = ["smartquotes"]

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines the names of modules, as if they were links
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # it fetches the pages found, which a browser refuses a page that is opened as a file
html_theme_options = {"navigation_with_keys": True}
