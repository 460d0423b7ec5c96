"""The documentation site. `make docs` builds it: strictly, and without a network."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring

import dshc
import dshc_fast

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# Files that lie beside the sources, and the pages that show them.
OUTSIDE = {
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/changelog": ROOT / "CHANGELOG.md",
    "project/program": ROOT / "python" / "dshc" / "README.md",
    "project/native-ops": ROOT / "csrc" / "README.md",
}

project = "dshc-fast"
author = "the authors of dshc-fast"
project_copyright = f"{author}; MIT licence"
release = version = dshc_fast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True  # every name that a docstring refers to must exist
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # those of torch refer to names that are not there
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
myst_heading_anchors = 4  # the anchors that repositories' pages have

html_theme = "furo"
html_title = f"dshc-fast {release}"
html_copy_source = html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}


def setup(app: Sphinx) -> None:
    app.connect("source-read", read_outside)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("doctree-read", link_names)
    app.connect("missing-reference", find_elsewhere)


def read_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill a page of OUTSIDE with its file. Its links to pages of the site lead there; other files are named only."""
    path = OUTSIDE.get(page)
    if path is None:
        return

    def link(found: re.Match[str]) -> str:
        text, address = found.groups()
        if ":" in address or address.startswith("#"):
            return found[0]
        name, hash_mark, anchor = address.partition("#")
        target = (path.parent / name).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{path}: link to {address}, which does not exist")
        shown = {file: DOCS / f"{shown_by}.md" for shown_by, file in OUTSIDE.items()}.get(target, target)
        if not shown.is_relative_to(DOCS):
            return f"`{text}`"
        return f"[{text}]({os.path.relpath(shown, (DOCS / page).parent)}{hash_mark}{anchor})"

    source[0] = re.sub(r"\[([^\]\[]+)\]\(([^)\s]+)\)", link, path.read_text(encoding="utf-8"))


def shorten_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Settings are listed below their class; the signature would repeat all of them."""
    return ("(**settings)", "") if is_model(thing) else None


def read_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Google's sections as reStructuredText, single backticks as code or links, settings of a model as a list."""
    if what not in ("attribute", "property"):  # whose first words before a colon would be read as a type
        lines[:] = GoogleDocstring(
            lines, Config(napoleon_use_rtype=False), app, what, name, thing, options
        ).lines()
    lines[:] = [re.sub(r"(?<![`:\w])`([^`\s][^`]*)`(?![`_])", as_code, line) for line in lines]
    if is_model(thing):
        lines += ["", *(line for field in thing.model_fields.items() for line in describe(*field)), ""]


def as_code(found: re.Match[str]) -> str:
    is_public = found[1] in dshc_fast.__all__
    return f":py:obj:`~dshc_fast.{found[1]}`" if is_public else f"``{found[1]}``"


def is_model(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)


def describe(name: str, field: Any) -> list[str]:
    text = f": {field.description}" if field.description else ""
    default = "" if isinstance(field.default, BaseModel) else f" (default: ``{field.default!r}``)"
    return [f"* ``{name}``{text}{default}"]


def link_names(app: Sphinx, document: nodes.document) -> None:
    """Code in a text that is a public name, such as ``dshc.train``, becomes a link to it."""
    for code in list(document.findall(nodes.literal)):
        name = code.astext()
        if isinstance(code.parent, (nodes.reference, pending_xref)) or not re.fullmatch(
            r"dshc(_fast)?(\.\w+)+", name
        ):
            continue
        if look_up(name, None, None) is not None:
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=name, refdoc=app.env.docname)
            code.replace_self(link)
            link += code


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """A reference by a name under which the thing is not documented: a link to where it is, or else the name alone.

    None, which is an error of the build, where there is no such thing.
    """
    if node.get("refdomain") != "py":
        return None
    thing = look_up(node["reftarget"], node.get("py:module"), node.get("py:class"))
    if thing is None:
        return None
    full_name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
    domain = env.domains.python_domain
    if full_name in domain.objects:
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full_name, node, content)
    return content


def look_up(name: str, module: str | None, owner: str | None) -> Any:
    """What a dotted name stands for in its class or module, anywhere in the two packages, or among all modules."""
    name = name.partition("[")[0]  # of a type that Sphinx could not take apart
    prefixes = [f"{module}.{owner}.", f"{module}.", "", "builtins."]
    ours = [
        known
        for known in sorted(sys.modules)
        if known.partition(".")[0] in (dshc.__name__, dshc_fast.__name__)
    ]
    for whole in [*(prefix + name for prefix in prefixes), *(f"{known}.{name}" for known in ours)]:
        parts = whole.split(".")
        for n_parts in range(len(parts), 0, -1):
            try:
                thing = importlib.import_module(".".join(parts[:n_parts]))
            except ImportError:
                continue
            try:
                for part in parts[n_parts:]:
                    thing = getattr(thing, part)
            except AttributeError:
                break
            return thing
    return None
