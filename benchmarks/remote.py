"""An object store through ipstore against zarr over s3fs: the same server, arrays, chunks and shards.

The server is SeaweedFS on this machine, so what is compared is what the clients cost; the network is left out. Written
is a run at ``full`` of 20 networks, 10.2 MB an epoch, 24 epochs a shard: by `RunWriter`, with digests, checksums and
commits; and by assigning the same blocks to the same arrays of zarr's ``FsspecStore``. Read is what ipstore wrote, by
`ipstore.open` and by xarray over the ``FsspecStore``: a layer of one network over all epochs, and one epoch of all
layers and networks.

The floor is the server, which takes its share of the same processors.

Run: ``python -m benchmarks.remote``
"""

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import FsspecStore, StorePath

import ipstore
from benchmarks.stored import real_block, repeated, write_run
from benchmarks.timing import typical_seconds
from ipstore.block import Block
from ipstore.group import read_document
from ipstore.places import locate
from tests.servers import BUCKET, KEY, SECRET, ObjectServer, seaweedfs

STORE = f"s3://{BUCKET}/runs.zarr"


def rival_store(server: ObjectServer, path: str) -> FsspecStore:
    options = {"key": KEY, "secret": SECRET, "endpoint_url": server.endpoint}
    return FsspecStore.from_url(f"s3://{BUCKET}/{path}", storage_options=options)


def rival_write(store: FsspecStore, arrays: dict[str, Any], block: Block, times: int) -> None:
    opened = {}
    for path in block.arrays:
        shape = [times * len(block.epochs), *arrays[path]["shape"][1:]]
        metadata = ArrayV3Metadata.from_dict({**arrays[path], "shape": shape})
        opened[path] = zarr.Array(zarr.AsyncArray(metadata, StorePath(store, path)))
    for turn in repeated(block, times):
        for path, values in turn.arrays.items():
            opened[path][turn.start : turn.start + len(turn.epochs)] = values


def read_layer(run: xr.DataTree) -> int:
    return int(run["activations/layer1"].isel(seed=3).to_numpy().nbytes)


def read_epoch(run: xr.DataTree) -> int:
    layers = run["activations"].to_dataset().data_vars.values()
    return sum(int(layer.isel(epoch=30).to_numpy().nbytes) for layer in layers)


def measure(times: int = 3, repeats: int = 3, folder: str | None = None) -> dict[str, Any]:
    """Megabytes of activations per second of both, and their ratio, as medians over interleaved repeats."""
    plan, block = real_block()
    with tempfile.TemporaryDirectory(dir=folder) as own, seaweedfs(Path(own) / "server") as server:
        os.environ.update(server.environment)
        write_run(STORE, "run", plan, block, times)
        arrays = read_document(locate(STORE) / "run")["consolidated_metadata"]["metadata"]
        ours = ipstore.open(STORE, run="run")
        theirs = xr.open_datatree(rival_store(server, "runs.zarr/run"), engine="zarr", chunks={}, zarr_format=3)
        volumes = {
            "write": times * sum(a.nbytes for path, a in block.arrays.items() if path.startswith("activations/")),
            "read a layer": read_layer(ours),
            "read an epoch": read_epoch(ours),
        }
        seconds = {
            what: typical_seconds({"ipstore": partial(read, ours), "s3fs": partial(read, theirs)}, repeats)
            for what, read in (("read a layer", read_layer), ("read an epoch", read_epoch))
        }
        writers = {
            "ipstore": partial(write_run, STORE, "run", plan, block, times),
            "s3fs": partial(rival_write, rival_store(server, "rival.zarr"), arrays, block, times),
        }
        seconds["write"] = typical_seconds(writers, repeats)
    return {
        "MB_per_s": {
            what: {who: volumes[what] / 1e6 / took for who, took in each.items()} for what, each in seconds.items()
        },
        "ratio": {what: each["s3fs"] / each["ipstore"] for what, each in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="shards of 24 epochs")
    parser.add_argument("--repeats", type=int, default=3, help="the server keeps what is written over: it fills up")
    parser.add_argument("--folder", help="where the server keeps its data; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.times, given.repeats, given.folder), indent=1))


if __name__ == "__main__":
    main()
