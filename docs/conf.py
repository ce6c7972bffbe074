"""The site: `make docs`. Pages are docs/*.md and some of the repository; see tools/docs_site.py."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "depthtok"
author = "the depthtok authors"
copyright = "the depthtok authors, Apache-2.0"
version = release = version_of("depthtok")

# Sources are below the root of the repository, so that links work as they do there.
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/reference/*.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "examples/README.md",
    "examples/*/README.md",
    "depthtok/sample/libero_sample/README.md",
    "tests/data/*/README.md",
]
exclude_patterns = [".*", "**/.*", "**/node_modules", "site", "build", "runs", "demo"]
source_suffix = {".md": "markdown"}
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "tools.docs_site",
]

myst_heading_anchors = 4
default_role = "code"
smartquotes = False  # -- is a flag
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"depthtok {version}"
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
