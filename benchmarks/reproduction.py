"""How long ``ipstore reproduce all --quick`` takes, from nothing to figures and verdicts.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.reproduction``
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(folder: str | None = None) -> dict[str, float]:
    """Seconds, and bytes of the store."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        begun = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "ipstore",
            "reproduce",
            "all",
            "--quick",
            "--store",
            f"{work}/s.zarr",
            "--json",
        ]
        subprocess.run([*command, "-o", f"{work}/out"], check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        stored = sum(path.stat().st_size for path in Path(work, "s.zarr").rglob("*") if path.is_file())
    return {"seconds": seconds, "stored_bytes": stored}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
