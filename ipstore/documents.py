"""What a group's ``zarr.json`` may say: read once, held against the format, before anything is done with it.

A store may come from anyone, and a bit of it may flip. So nothing is taken from a document that is not of the type
and within the limits that a writer keeps to: names that stay in their folder, sizes that agree with each other and
fit into memory, codecs that check every byte and run nothing. Attributes that are not known are left alone.
"""

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ipstore.errors import CorruptionError, ParameterError
from ipstore.levels import LEVELS, stored_dtype
from ipstore.schema import check_name
from ipstore.sweeps import Sweep

__all__ = ["Kind", "check_document", "decode"]

Kind = Literal["run", "result"]

_MAX_BYTES = 2**26
_MAX_DEPTH = 16
_MOST_NAMED = 16
_MAX_EPOCHS = 2**24
_MAX_COORDINATE_CHUNKS = 2**16
"""A coordinate is read whole when a group is opened."""
_MAX_SHARDED_CHUNK_BYTES, _MAX_CHUNK_BYTES = 2**31, 2**36
"""Chunks in shards hold few epochs of a seed; a chunk by itself may hold all of an array."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_STATE = re.compile(r"state/[0-9]{1,19}\.safetensors")

_ITEM_BYTES = {
    "bool": 1,
    "string": 1,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
}


def decode(content: bytes) -> dict[str, Any]:
    """Read a document as JSON.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If it is not a JSON object, or is deeper, longer, or of larger numbers than any that ipstore writes.
    """
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it is {len(content)} bytes long, and none is longer than {_MAX_BYTES}")
    try:
        document = json.loads(content, parse_int=_integer, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError(f"it holds {reprlib.repr(document)}, not a JSON object")
    texts: list[str] = []
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        below = []
        for node in level:
            if isinstance(node, dict):
                texts += node
                node = node.values()
            texts += [item for item in node if isinstance(item, str)]
            below += [item for item in node if isinstance(item, dict | list)]
        if not below:
            break
        level = below
    else:
        raise ValueError("it is nested too deeply")
    if odd := _UNPRINTABLE.search("\t".join(texts)):
        raise ValueError(f"a text in it has the character {odd[0]!r}, which cannot be printed")
    return document


def _integer(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"the number {reprlib.repr(text)} in it is larger than any that is stored")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {reprlib.repr(text)} in it is not finite")
    return value


class _Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_names(values: Any) -> bool:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return False
    for value in values:
        check_name("layer", value)
    return 0 < len(set(values)) == len(values)


def _are_seeds(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_count, values)) and 0 < len(set(values)) == len(values)


def _are_diverged(values: Any) -> bool:
    return isinstance(values, dict) and all(
        re.fullmatch("[0-9]{1,19}", seed) and _is_count(epoch) for seed, epoch in values.items()
    )


def _is_binning(value: Any) -> bool:
    match value:
        case {"rule": "equal", "bins": int(bins), "range": [int() | float() as low, int() | float() as high]}:
            return bins is not True and 1 <= bins <= 255 and low < high and math.isfinite(high - low)
    return False


def _is_sweep(value: Any) -> bool:
    Sweep.from_attrs(value)  # says itself what is wrong
    return True


_TEXT = _Rule("a text", lambda value: isinstance(value, str))
_COUNT = _Rule("an integer of at least 0", _is_count)
_OBJECT = _Rule("an object", lambda value: isinstance(value, dict))
_NUMBER = _Rule("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool))
_LAYERS = _Rule("a list of the layers' names, each once", _are_names)

_COMMIT = {
    "sequence": _COUNT,
    "epochs": _Rule(f"an integer from 0 to {_MAX_EPOCHS}", lambda value: _is_count(value) and value <= _MAX_EPOCHS),
    "time": _TEXT,
}
_COMMIT_IF_THERE = {
    "last_epoch": _COUNT,
    "state": _Rule(
        "'state/<number>.safetensors'", lambda value: isinstance(value, str) and bool(_STATE.fullmatch(value))
    ),
    "state_crc32c": _COUNT,
    "files": _COUNT,
    "bytes": _COUNT,
}
_ATTRIBUTES: dict[Kind, dict[str, _Rule]] = {
    "run": {
        "status": _TEXT,
        "level": _Rule(f"one of {', '.join(LEVELS)}", lambda value: value in LEVELS),
        "layers": _LAYERS,
        "seeds": _Rule("a list of the seeds, integers of at least 0, each once", _are_seeds),
        "diverged": _Rule("an object of seeds with epochs", _are_diverged),
        "task": _TEXT,
        "created_at": _TEXT,
    },
    "result": {
        "layers": _LAYERS,
        "estimator": _TEXT,
        "parameters": _OBJECT,
        "labels": _TEXT,
        "created_at": _TEXT,
    },
}
_ATTRIBUTES_IF_THERE: dict[Kind, dict[str, _Rule]] = {
    "run": {
        "binning": _Rule("equal bins, 1 to 255, with a range of two numbers", _is_binning),
        "sweep": _Rule("a sweep's name, its axes, and where on these the run stands", _is_sweep),
        **dict.fromkeys(("task_params", "model", "config", "versions"), _OBJECT),
        **dict.fromkeys(("labels", "probe"), _TEXT),
    },
    "result": {
        "every": _Rule("an integer of at least 1", lambda value: _is_count(value) and value > 0),
        **dict.fromkeys(("split", "target", "probe", "labels_from", "labels_name", "source_run", "about"), _TEXT),
        **dict.fromkeys(("certificate", "estimator_kind", "units"), _TEXT),
        **dict.fromkeys(("I_XY", "H_X", "H_Y", "onset_beta", "curve_error"), _NUMBER),
    },
}

_PER_SPLIT, _PER_LAYER = ("epoch", "seed", "split"), ("epoch", "seed", "layer")
_ARRAYS: dict[Kind, dict[str, tuple[tuple[str, ...], ...]]] = {
    # Data types and dimensions of the arrays that are known; of others nothing is asked but that they can be read.
    "run": {
        "epoch": (("int64",), ("epoch",)),
        "seed": (("int64",), ("seed",)),
        "digest/crc32c": (("uint32",), _PER_LAYER),
        "digest/layer": (("string",), ("layer",)),
        "training/layer": (("string",), ("layer",)),
        "training/split": (("string",), ("split",)),
        "training/loss": (("float32",), _PER_SPLIT),
        "training/accuracy": (("float32",), _PER_SPLIT),
        "training/grad_mean_norm": (("float32",), _PER_LAYER),
        "training/grad_std_norm": (("float32",), _PER_LAYER),
        "training/weight_norm": (("float32",), _PER_LAYER),
        "probe/x": (("float32",), ("sample", "feature")),
        "probe/y": (("int64",), ("sample",)),
        "probe/p_x": (("float64",), ("sample",)),
        "probe/p_y_given_x": (("float64",), ("sample", "class")),
        "probe/x_id": (("int64",), ("sample",)),
        "probe/train": (("bool",), ("seed", "sample")),
    },
    "result": {
        "epoch": (("int64",), ("epoch",)),
        "seed": (("int64",), ("seed",)),
        "layer": (("string",), ("layer",)),
    },
}
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "run": ("epoch", "seed", "digest/crc32c", "probe/x", "probe/p_y_given_x"),
    "result": ("epoch", "seed", "layer"),
}


def check_document(document: dict[str, Any], where: object, kind: Kind | None = None) -> None:
    """Refuse a group's document that says what no writer says.

    Parameters
    ----------
    document : dict
        As `decode` gives it.
    where
        Of the document, for the message.
    kind : {"run", "result"}, optional
        What the group must be; by default what it seems to be.

    Raises
    ------
    CorruptionError
        Names what is wrong first.
    """
    try:
        _check(document, kind)
    except (_Wrong, ParameterError) as error:
        raise CorruptionError(f"{str(where)!r} is damaged, or not from ipstore: {error}") from None


class _Wrong(Exception):
    """What is wrong with a document, in words."""


def _check(document: dict[str, Any], kind: Kind | None) -> None:
    attrs = document.get("attributes")
    _require("its 'attributes'", attrs, _OBJECT)
    assert isinstance(attrs, dict)
    kind = kind or ("result" if "estimator" in attrs and "level" not in attrs else "run")
    _check_values("attribute", attrs, _ATTRIBUTES[kind], _ATTRIBUTES_IF_THERE[kind])
    commit = attrs.get("commit")
    _require("attribute 'commit'", commit, _OBJECT)
    assert isinstance(commit, dict)
    _check_values("the commit's", commit, _COMMIT, _COMMIT_IF_THERE)
    if "state" in commit and "state_crc32c" not in commit:
        raise _Wrong("the commit names a state without its 'state_crc32c'")
    consolidated = document.get("consolidated_metadata")
    _expect("zarr_format and node_type", (document.get("zarr_format"), document.get("node_type")), (3, "group"))
    if not isinstance(consolidated, dict) or not isinstance(consolidated.get("metadata"), dict):
        raise _Wrong("it lacks 'consolidated_metadata' with 'metadata'")
    _expect("the kind of consolidated_metadata", consolidated.get("kind"), "inline")
    for keys, known_keys in ((document, _DOCUMENT_KEYS), (consolidated, {"kind", "must_understand", "metadata"})):
        if unknown := keys.keys() - known_keys:
            raise _Wrong(f"it has {_listed(unknown)}, which this version does not know")
    nodes: dict[str, Any] = consolidated["metadata"]
    sizes: dict[str, int] = {"epoch": commit["epochs"], "layer": len(attrs["layers"])}
    if kind == "run":
        sizes["seed"] = len(attrs["seeds"])
    known = dict(_ARRAYS[kind])
    if kind == "run":
        known |= dict(_layer_arrays(attrs, nodes))
    for path in _NEEDED[kind]:
        if path not in nodes:
            raise _Wrong(f"it has no array {path!r}, which every {kind} has")
    for path, node in nodes.items():
        _check_node(path, node, nodes)
        if node["node_type"] == "array":
            _check_array(path, node, sizes)
            dtypes, dims = known.get(path, ((), ()))
            if dtypes and node["data_type"] not in dtypes:
                raise _Wrong(f"array {path!r} must hold {' or '.join(dtypes)} but holds {node['data_type']}")
            given = tuple(node["dimension_names"])
            if dims and (given[: len(dims)] != dims or (len(given) > len(dims) and path in _ARRAYS[kind])):
                raise _Wrong(f"array {path!r} must have the dimensions {', '.join(dims)} but has {', '.join(given)}")
        elif path in known:
            raise _Wrong(f"{path!r} must be an array but is a group")
    if (named := nodes.get("activations", {}).get("attributes", {}).get("layers")) is not None:
        _expect("attribute 'layers' of the group 'activations'", named, attrs["layers"])


def _layer_arrays(
    attrs: Mapping[str, Any], nodes: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Give the arrays of the layers, and refuse a run that lacks activations or has those of other layers."""
    level, layers = attrs["level"], attrs["layers"]
    for layer in layers:
        yield f"weights/{layer}", (("float32",), ("epoch", "seed", f"{layer}_param"))
        if level != "weights":
            yield f"activations/{layer}", ((stored_dtype(level),), ("epoch", "seed", "sample"))
    stored = {path.partition("/")[2] for path in nodes if path.startswith("activations/")}
    expected = set() if level == "weights" else set(layers)
    if stored != expected:
        raise _Wrong(
            f"at level {level!r} it must hold activations of {_listed(expected)} but holds those of {_listed(stored)}"
        )
    if level == "codes":
        _require("attribute 'binning'", attrs.get("binning"), _ATTRIBUTES_IF_THERE["run"]["binning"])
    for layer in expected if level == "codes" else ():
        binning = nodes[f"activations/{layer}"].get("attributes", {}).get("binning")
        _require(f"attribute 'binning' of 'activations/{layer}'", binning, _ATTRIBUTES_IF_THERE["run"]["binning"])


def _check_values(
    whose: str, values: Mapping[str, Any], needed: Mapping[str, _Rule], if_there: Mapping[str, _Rule]
) -> None:
    for name, rule in needed.items():
        if name not in values:
            raise _Wrong(f"{whose} {name!r} is missing; it must be {rule.words}")
    for name, rule in (*needed.items(), *if_there.items()):
        if name in values:
            _require(f"{whose} {name!r}", values[name], rule)


def _check_node(path: str, node: Any, nodes: Mapping[str, Any]) -> None:
    """Check what arrays and groups have in common."""
    parts = path.split("/")
    for part in parts:
        check_name("array and group", part)
    if not isinstance(node, dict) or node.get("node_type") not in ("array", "group") or node.get("zarr_format") != 3:
        raise _Wrong(f"{path!r} must be an array or a group of Zarr format 3 but is {reprlib.repr(node)}")
    _require(f"the attributes of {path!r}", node.get("attributes", {}), _OBJECT)
    if unknown := node.keys() - (_ARRAY_KEYS if node["node_type"] == "array" else _GROUP_KEYS):
        raise _Wrong(f"{path!r} has {_listed(unknown)}, which this version does not know")
    for parent in ("/".join(parts[:depth]) for depth in range(1, len(parts))):
        above = nodes.get(parent)
        if not isinstance(above, dict) or above.get("node_type") != "group":
            raise _Wrong(f"{path!r} lies in {parent!r}, which is not a group in it")


_GROUP_KEYS = {"attributes", "zarr_format", "node_type"}
_DOCUMENT_KEYS = _GROUP_KEYS | {"consolidated_metadata"}
_ARRAY_KEYS = _GROUP_KEYS | {
    *("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("dimension_names", "storage_transformers"),
}
_KEYS = {"name": "default", "configuration": {"separator": "."}}
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM = {"name": "crc32c"}


def _check_array(path: str, node: Mapping[str, Any], sizes: dict[str, int]) -> None:
    """Check an array's shape, chunks and codecs; note the lengths of its dimensions, of which there is one each."""
    shape, dims, dtype, fill = (node.get(key) for key in ("shape", "dimension_names", "data_type", "fill_value"))
    what = f"of array {path!r}"
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise _Wrong(f"the shape {what} must be integers of at least 0 but is {reprlib.repr(shape)}")
    if (
        not isinstance(dims, list)
        or not all(isinstance(dim, str) and dim for dim in dims)
        or not len(set(dims)) == len(dims) == len(shape)
    ):
        raise _Wrong(f"the dimension_names {what} must be {len(shape)} different texts but are {reprlib.repr(dims)}")
    if "epoch" in dims[1:]:
        raise _Wrong(f"the dimension 'epoch' {what} must be the first")
    for dim, length in zip(dims, shape, strict=True):
        if sizes.setdefault(dim, length) != length:
            raise _Wrong(f"the dimension {dim!r} {what} is {length} long, and {sizes[dim]} elsewhere")
    name = path.rpartition("/")[2]
    if name in dims and len(dims) > 1:
        raise _Wrong(f"array {path!r} is named like a dimension, so it must be along that alone")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _Wrong(f"the data_type {what} must be one of {_listed(_ITEM_BYTES)} but is {reprlib.repr(dtype)}")
    if not _fills(dtype, fill):
        raise _Wrong(f"the fill_value {what}, {dtype}, is {reprlib.repr(fill)}")
    _expect(f"the chunk_key_encoding {what}", node.get("chunk_key_encoding"), _KEYS)
    _expect(f"the storage_transformers {what}", node.get("storage_transformers", []), [])
    chunks = _chunks(f"the chunk_grid {what}", node.get("chunk_grid"), "regular", shape)
    _expect(f"the chunk_grid {what}", node["chunk_grid"], {"name": "regular", "configuration": {"chunk_shape": chunks}})
    counts = [-(-length // step) for length, step in zip(shape, chunks, strict=True)]
    if max(counts, default=1) > (_MAX_COORDINATE_CHUNKS if name in dims else _MAX_EPOCHS):
        raise _Wrong(f"array {path!r} of shape {shape} is cut into too many chunks, of shape {chunks}")
    codecs, limit = node.get("codecs"), _MAX_CHUNK_BYTES
    if isinstance(codecs, list) and len(codecs) == 1:
        (shards,) = codecs
        inner = _chunks(f"the codec {what}", shards, "sharding_indexed", shape)
        options = shards["configuration"]
        _expect(f"the codec {what}", set(shards), {"name", "configuration"})
        if any(whole % part for whole, part in zip(chunks, inner, strict=True)):
            raise _Wrong(f"the shards {what}, of shape {chunks}, must be whole numbers of chunks but those are {inner}")
        if math.prod(chunks) // math.prod(inner) > _MAX_COORDINATE_CHUNKS:
            raise _Wrong(f"the shards {what}, of shape {chunks}, hold too many chunks, of shape {inner}")
        _expect(f"the index {what}", options.get("index_codecs"), [_LITTLE, _CHECKSUM])
        _expect(f"the index {what}", options.get("index_location"), "end")
        if unknown := options.keys() - {"chunk_shape", "codecs", "index_codecs", "index_location"}:
            raise _Wrong(f"the codec {what} has {_listed(unknown)}, which this version does not know")
        chunks, codecs, limit = inner, options.get("codecs"), _MAX_SHARDED_CHUNK_BYTES
    _check_codecs(what, codecs, dtype)
    if (size := math.prod(chunks) * _ITEM_BYTES[dtype]) > limit:
        raise _Wrong(f"a chunk {what}, of shape {chunks}, would take {size} bytes, and none takes more than {limit}")


def _chunks(what: str, given: Any, name: str, shape: list[int]) -> list[int]:
    match given:
        case {"name": found, "configuration": {"chunk_shape": [*chunks]}} if found == name:
            if len(chunks) == len(shape) and all(_is_count(chunk) and chunk > 0 for chunk in chunks):
                return chunks
    raise _Wrong(f"{what} must be {name!r} with {len(shape)} positive integers but is {reprlib.repr(given)}")


def _check_codecs(what: str, codecs: Any, dtype: str) -> None:
    """Allow what ipstore writes, in its order: bytes or texts, perhaps compressed, and always a checksum."""
    match codecs:
        case [first, *middle, last]:
            firsts: list[Any] = [{"name": "bytes"}, _LITTLE] if dtype != "string" else [_VLEN, _VLEN | _NO_OPTIONS]
            allowed = first in firsts and last in (_CHECKSUM, _CHECKSUM | _NO_OPTIONS) and len(middle) <= 1
            if (
                allowed
                and (dtype in ("bool", "int8", "uint8") or first != {"name": "bytes"})
                and all(map(_is_blosc, middle))
            ):
                return
    raise _Wrong(
        f"the codecs {what} must be bytes (little-endian), or vlen-utf8 for texts, then at most blosc, then crc32c, or "
        f"shards of such chunks, but are {reprlib.repr(codecs)}"
    )


_VLEN = {"name": "vlen-utf8"}
_NO_OPTIONS: dict[str, Any] = {"configuration": {}}


def _is_blosc(codec: Any) -> bool:
    match codec:
        case {
            "name": "blosc",
            "configuration": {
                "cname": "lz4" | "lz4hc" | "blosclz" | "zstd" | "zlib" | "snappy",
                "clevel": int(level),
                "shuffle": "noshuffle" | "shuffle" | "bitshuffle",
                "typesize": int(size),
                "blocksize": int(block),
                **others,
            },
            **more,
        }:
            numbers = type(level) is type(size) is type(block) is int and not (others or more)
            return numbers and 0 <= level <= 9 and 1 <= size <= 255 and 0 <= block < 2**31
    return False


def _fills(dtype: str, value: Any) -> bool:
    if dtype == "string":
        return isinstance(value, str)
    if dtype == "bool":
        return isinstance(value, bool)
    if dtype.startswith("float"):
        return value in ("NaN", "Infinity", "-Infinity") or _NUMBER.holds(value)
    low = 0 if dtype.startswith("u") else -(2 ** (8 * _ITEM_BYTES[dtype] - 1))
    return type(value) is int and low <= value < low + 2 ** (8 * _ITEM_BYTES[dtype])


def _require(what: str, value: Any, rule: _Rule) -> None:
    if not rule.holds(value):
        raise _Wrong(f"{what} must be {rule.words} but is {reprlib.repr(value)}")


def _expect(what: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise _Wrong(f"{what} must be {expected!r} but is {reprlib.repr(value)}")


def _listed(names: Any) -> str:
    """Name a few, each cut short: they may be anybody's."""
    first = ", ".join(map(reprlib.repr, sorted(names)[:_MOST_NAMED])) or "none"
    return first if len(names) <= _MOST_NAMED else f"{first} and {len(names) - _MOST_NAMED} more"
