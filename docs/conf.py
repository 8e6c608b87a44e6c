"""How the documentation's pages are built: `make docs`."""

from __future__ import annotations

import os
from pathlib import Path

from sphinx.application import Sphinx

import deadtokens

project = "deadtokens"
author = "The deadtokens developers"
release = version = deadtokens.__version__
project_copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns: list[str] = []
default_role = "code"

html_theme = "furo"
html_title = "deadtokens"
html_static_path = ["_static"]
html_css_files = ["math.css"]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = True

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# The notebooks' kernels warn that they talk over TCP, which they do within this machine.
_profile = Path(__file__).parent.parent / "site" / "ipython" / "profile_default"
_profile.mkdir(parents=True, exist_ok=True)
(_profile / "ipython_kernel_config.py").write_text(
    "c = get_config()\nc.IPKernelApp.log_level = 40\n"
)
os.environ["IPYTHONDIR"] = str(_profile.parent)

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True


def keep_bars(
    _app: Sphinx, _what: str, _name: str, _of: object, _options: object, lines: list[str]
) -> None:
    """|value| in a docstring is a magnitude, no substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_bars)
