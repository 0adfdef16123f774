"""A directive that writes the help of every command of ``ipstore``, a section each, as the terminal shows it."""

from typing import Any

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ipstore.cli.app import app

__all__ = ["CommandHelp", "setup"]

_WIDTH = 86
"""Columns, as many as a page shows."""


class CommandHelp(SphinxDirective):
    """``.. command-help::`` has neither arguments nor options."""

    def run(self) -> list[nodes.Node]:
        """Give the sections."""
        group: Any = typer.main.get_command(app)
        above = group.context_class(group, info_name="ipstore", terminal_width=_WIDTH)
        made: list[nodes.Node] = [_block(group.get_help(above))]
        for name in group.list_commands(above):
            command = group.get_command(above, name)
            context = command.context_class(command, info_name=name, parent=above, terminal_width=_WIDTH)
            title = f"ipstore {name}"
            section = nodes.section("", nodes.title(title, title), _block(command.get_help(context)))
            section["names"].append(title)
            self.state.document.note_implicit_target(section, section)
            made.append(section)
        return made


def _block(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
