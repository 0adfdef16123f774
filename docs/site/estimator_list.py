"""A directive that writes what every registered estimator says of itself, a section each."""

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ipstore.analysis.estimators import Estimator, available, get

__all__ = ["EstimatorList", "setup"]


class EstimatorList(SphinxDirective):
    """``.. estimator-list::`` has neither arguments nor options."""

    def run(self) -> list[nodes.Node]:
        """Give the sections."""
        made: list[nodes.Node] = []
        for name in available():
            section = nodes.section("", nodes.title(name, name), ids=[f"estimator-{name}"], names=[f"estimator {name}"])
            self.state.document.note_explicit_target(section, section)
            section += self.parse_text_to_nodes("\n".join(_described(get(name))))
            made.append(section)
        return made


def _described(estimator: Estimator) -> Iterator[str]:
    """Write an estimator in reStructuredText; what it says of itself is plain text."""
    yield from (f"{_plain(estimator.summary)}.", "")
    given = [
        f"``{each.name}``" + (f" ({each.kind})" if each.kind not in (None, estimator.kind) else "")
        for each in estimator.quantities
    ]
    yield from (":Gives: " + ", ".join(given), f":Kind: {estimator.kind}")
    for name, why in estimator.refuses.items():
        yield f":Refuses: ``{name}``, because {_plain(why)}"
    yield from (f":Reference: {_plain(estimator.reference)}", "")
    if estimator.parameters:
        yield from (".. list-table::", "   :header-rows: 1", "")
        yield from _row("parameter", "meaning", "allowed", "default")
        for each in estimator.parameters:
            default = f"``{str(estimator.defaults[each.name]).lower()}``"
            allowed = _plain(each.allowed) + (
                ", or none" if each.optional and "none" not in each.allowed.lower() else ""
            )
            yield from _row(f"``{each.name}``", _plain(each.description), allowed, default)


def _row(*cells: str) -> Iterator[str]:
    for place, cell in enumerate(cells):
        yield f"   {'* -' if place == 0 else '  -'} {cell}"


def _plain(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\*`|_" else letter for letter in text)


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("estimator-list", EstimatorList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
