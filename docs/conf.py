"""Reference site, made by `make docs` of README, CONTRIBUTING, notebooks and docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pnnlab

project = "pnnlab"
author = "pnnlab contributors"
version = release = pnnlab.__version__
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "README.md", "GLOSSARY.md", "WORKSHOP.md"]
include_patterns += ["CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["**/.ipynb_checkpoints", "docs/api/modules.rst"]

extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
nb_execution_mode = "off"  # what is stored is shown
suppress_warnings = [
    "mystnb.unknown_mime_type",  # plotly's figures are for JupyterLab
    "ref.python",  # names in a docstring's types, such as input_dim, that several classes have
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../pnnlab",
        "destination": "docs/api",  # not kept
        "module_first": True,
    }
]
# A name is described once, where it is defined.
autodoc_default_options = {"ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True
default_role = "code"

html_theme = "furo"
html_title = "pnnlab"
