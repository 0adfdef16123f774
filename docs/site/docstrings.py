"""What docstrings need to stand on a page together, each read as if alone, with links where there is something."""

import ast
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from inspect import Signature, getsource, signature
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

__all__ = [
    "drop_lost_ways_back",
    "leave_words",
    "link_class",
    "mark_parameters",
    "number_notes",
    "setup",
    "shorten",
    "take_from_home",
    "tidy_fields",
]

_NOTE = re.compile(r"\[(\d+)\](?=_|\s)")
_BACK = re.compile(r'<a class="viewcode-back" href="[^"#]*#([^"]+)">.*?</a>')
_OBJECT = re.compile(r"=<.*?>+(?=[,)])")
_NAME = re.compile(r"(?<![`:\w])`(\w+)`(?![`_\w])")


def number_notes(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Let every docstring have notes of its own: ``[1]`` of one is not that of the next on the page."""
    if any(line.lstrip().startswith(".. [1]") for line in lines):
        own = name.lower().replace(".", "-").replace("_", "-")
        lines[:] = [_NOTE.sub(rf"[#{own}-\1]", line) for line in lines]


def take_from_home(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Give data that a package takes from a module of its own the docstring that stands there below it."""
    package, _, attribute = name.rpartition(".")
    if what != "data" or package == "":
        return
    docs = ModuleAnalyzer.for_module(_home(package, attribute)).find_attr_docs()
    lines[:] = docs.get(("", attribute), [])


def mark_parameters(app: Sphinx, what: str, name: str, found: Any, options: object, lines: list[str]) -> None:
    """Take the name of a parameter for it, also where a function is called so, too."""
    if what in ("class", "function", "method"):
        own = signature(found).parameters
        lines[:] = [_NAME.sub(lambda match: f"`{match[0]}`" if match[1] in own else match[0], line) for line in lines]


class _Elided:
    def __repr__(self) -> str:
        return "..."


def shorten(
    app: Sphinx, what: str, name: str, found: Any, options: object, arguments: str | None, result: str | None
) -> tuple[str, None] | None:
    """Leave defaults that are no plain values to the docstring."""
    if not (isinstance(found, type) and is_dataclass(found)):
        return (_OBJECT.sub("=...", arguments), None) if arguments else None
    shown = [
        each.replace(annotation=each.empty, default=each.default if _is_plain(each.default) else _Elided())
        for each in signature(found).parameters.values()
    ]
    return str(Signature(shown)), None


def _is_plain(default: object) -> bool:
    if isinstance(default, tuple):
        return all(map(_is_plain, default))
    return default is None or default is Signature.empty or isinstance(default, str | bool | int | float)


def leave_words(app: Sphinx, document: nodes.document) -> None:
    """Link no plain words in types: in ``(seed,) float64`` they are dimensions, whatever else has that name."""
    for node in list(document.findall(pending_xref)):
        if node.get("reftype") == "class" and node.hasattr("refspecific") and node["reftarget"].islower():
            node.replace_self(node.children)


def tidy_fields(app: Sphinx, document: nodes.document) -> None:
    """Call attributes what numpydoc calls them, and leave out the dash behind errors of which no more is said."""
    for name in document.findall(nodes.field_name):
        if name.astext() == "Variables":
            name.children = [nodes.Text("Attributes")]
    for body in document.findall(nodes.field_body):
        for paragraph in body.findall(nodes.paragraph):
            *_, dash, last = [None, None, *paragraph.children]
            if last is not None and not last.astext() and isinstance(dash, nodes.Text):
                paragraph.remove(dash)


def _home(package: str, attribute: str) -> str:
    """Name the module from which a package imports `attribute`, or the package itself."""
    for node in ast.walk(ast.parse(getsource(import_module(package)))):
        if isinstance(node, ast.ImportFrom) and any(alias.name == attribute for alias in node.names):
            return str(node.module)
    return package


def link_class(app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.Element) -> nodes.Element | None:
    """Link a class that is named without its module, as types in docstrings are, if only one is called so."""
    name = node["reftarget"]
    domain = env.domains["py"]
    if node.get("refdomain") != "py" or not name[:1].isupper() or not isinstance(domain, PythonDomain):
        return None
    known: Sequence[str] = [
        full
        for full, entry in domain.objects.items()
        if full.rpartition(".")[2] == name and entry.objtype in ("class", "data", "exception")
    ]
    if len(known) != 1:
        return None
    where = domain.objects[known[0]]
    builder: Any = app.builder
    return nodes.reference(
        "",
        "",
        contents,
        internal=True,
        refuri=builder.get_relative_uri(node["refdoc"], where.docname) + f"#{where.node_id}",
    )


def drop_lost_ways_back(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Leave out links from a source to the documentation that viewcode guesses and that lead nowhere.

    It takes all names of a module to be documented as one of them is, by the package or by the module itself.
    """
    if page.startswith("_modules/"):
        known = app.env.domains["py"].data["objects"]
        context["body"] = _BACK.sub(lambda match: match[0] if match[1] in known else "", context["body"])


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Connect them: what concerns sections before napoleon takes these apart, and data, which have none, after it."""
    sphinx.connect("autodoc-process-docstring", take_from_home, priority=600)
    sphinx.connect("autodoc-process-docstring", number_notes, priority=400)
    sphinx.connect("autodoc-process-docstring", mark_parameters, priority=400)
    sphinx.connect("autodoc-process-signature", shorten)
    sphinx.connect("doctree-read", leave_words)
    sphinx.connect("doctree-read", tidy_fields)
    sphinx.connect("html-page-context", drop_lost_ways_back)
    sphinx.connect("missing-reference", link_class)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
