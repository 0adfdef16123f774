"""What the pages of ``docs/`` mean otherwise on the site than where they lie: files, pictures, names of other pages."""

from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.osutil import relative_uri

__all__ = ["OpenedFiles", "name_pages", "setup", "widen_pictures"]

_SHOWN = {".gif", ".html", ".json", ".png"}


class OpenedFiles(SphinxPostTransform):
    """Links to files that a browser can show open them; all others download them."""

    default_priority = 900  # when links to files have become downloads, and files have got their places
    formats = ("html",)

    def run(self, **options: Any) -> None:
        """Make plain links of the downloads of one page that a browser can show."""
        here = self.app.builder.get_target_uri(self.env.docname)
        for node in list(self.document.findall(addnodes.download_reference)):
            place = node.get("filename")
            if place and PurePosixPath(place).suffix in _SHOWN:
                link = nodes.reference("", "", *node.children, refuri=relative_uri(here, f"_downloads/{place}"))
                node.replace_self(link)


def name_pages(app: Sphinx, document: nodes.document) -> None:
    """Let a link that reads ``bound.md`` have the title of that page."""
    for node in document.findall(addnodes.pending_xref):
        if node.get("refdomain") == "doc" and node.astext().endswith(".md"):
            node["refexplicit"] = False


def widen_pictures(app: Sphinx, document: nodes.document) -> None:
    """Show pictures as wide as the text, each a link to its full size."""
    for node in document.findall(nodes.image):
        node["width"] = "100%"


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the transform and connect the others."""
    sphinx.add_post_transform(OpenedFiles)
    sphinx.connect("doctree-read", name_pages)
    sphinx.connect("doctree-read", widen_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
