"""The documentation site: `make docs`."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import vae_ext  # noqa: E402

project = "vae_ext"
author = "the vae_ext authors"
copyright = author  # noqa: A001
release = version = vae_ext.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["pictures"]

html_theme = "furo"
html_title = "vae_ext"
html_copy_source = False
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
default_role = "code"
nitpicky = True
# Of other packages, whose pages a build without a network does not have.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|collections|contextlib|types)\..*"),
    (r"py:class", r"Tensor|scvi\..*"),
]
# With an environment of its own: its patch has its signature and documentation without it.
autodoc_mock_imports = [] if importlib.util.find_spec("scvi") else ["scvi"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_rtype = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


LITERAL = re.compile(r"(``.*?``|:[\w:]+:`[^`]*`|`[^`]*`)")
ARGUMENTS = re.compile(r"^( *(?:\w+, )*\w+,)\n +(?=(?:\w+, )*\w+:)", re.MULTILINE)


def plain_english(*event: Any) -> None:
    """Docstrings are read in terminals and editors, and have no marks that mean something only
    here: a star is a star."""
    lines: list[str] = event[-1]
    found: list[str] = []
    literal: int | None = None  # the indentation of what introduced a block of code
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None:
            parts = LITERAL.split(line)
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            found.append("".join(parts))
            literal = indent if line.rstrip().endswith("::") else None
        else:
            found.append(line)
    lines[:] = ARGUMENTS.sub(r"\1 ", "\n".join(found)).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Formulas as the browser's own MathML, without a script."""

    def inline(self: Any, node: nodes.Element) -> None:
        self.body.append(convert(node.astext()))
        raise nodes.SkipNode

    def block(self: Any, node: nodes.Element) -> None:
        self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
        raise nodes.SkipNode

    app.add_node(nodes.math, html=(inline, None), override=True)
    app.add_node(nodes.math_block, html=(block, None), override=True)
    app.connect("autodoc-process-docstring", plain_english, priority=400)  # before napoleon
    app.add_css_file("site.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
