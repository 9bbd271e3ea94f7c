"""Sphinx builds these pages: pip install ".[docs]" && sphinx-build -W docs docs/_build."""

import pyro_mgvi

project = "pyro_mgvi"
author = "The pyro_mgvi developers"
release = pyro_mgvi.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings tell
numpydoc_show_class_members = False  # a table of all methods hides the ones that matter
html_theme = "pydata_sphinx_theme"
html_title = "pyro_mgvi"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}
html_static_path = ["_static"]
html_css_files = ["pages.css"]
