"""Execute the notebooks of examples/, each in a folder of its own, by the kernel of this environment.

Run: ``python -m tests.notebooks [NAME ...]`` writes what they give into them: text as it is, images in 64 colours, so
that a file stays small.
"""

import argparse
import base64
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
COLOURS = 64
WIDTH = 900
"""Pixels of an image, at most."""


def read(path: Path) -> Any:
    """Give a notebook as it is stored."""
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def execute(path: Path, folder: Path) -> Any:
    """Give a notebook with its outputs. Nothing is written but into `folder`.

    Raises
    ------
    CellExecutionError
        With the cell and its error.
    """
    from nbclient import NotebookClient

    notebook = read(path)
    environment = os.environ | {
        "IPYTHONDIR": str(folder / ".ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def compact(notebook: Any) -> None:
    """Leave of the outputs what a reader sees, with images in few colours."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output.data = {"image/png": _small(png)}
                output.metadata = {}


def _small(png: str) -> str:
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(kept, "png", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def main() -> None:
    """Execute the notebooks that are named, or all, and write them with their outputs."""
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in EXAMPLES.glob("*.ipynb")))
    for name in parser.parse_args().names:
        path = EXAMPLES / f"{name}.ipynb"
        with tempfile.TemporaryDirectory(prefix="ipstore-notebook-") as folder:
            notebook = execute(path, Path(folder))
        compact(notebook)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
