"""``ipstore copy``, ``merge`` and ``materialise``: runs between places, of parts one run, of weights a whole one."""

from dataclasses import asdict
from typing import Annotated

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Run, StoreOrRun
from ipstore.cli.output import Json, print_json, print_table, progress, say
from ipstore.cli.reporting import Failure
from ipstore.wording import size

__all__ = ["copy", "materialise", "merge"]


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC[/RUN]", help="A store, or one run of it.")],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="A store: a folder or a URL (s3://bucket/path); made if there is none.")
    ],
    run: Run = None,
    json: Json = False,
) -> None:
    """Copy runs, with their results, to another store.

    Each chunk is held against its checksums, and is read back before the copy is published. A copy that was broken off
    goes on where it was; of a run that has grown since, only what is new is sent. A run that is being written is copied
    at its last commit.
    """
    import ipstore

    place, names = specs.stored_runs(source, run)
    copied = []
    for name in names:
        with progress(f"copy {name}", "objects") as show:
            try:
                copied += ipstore.copy(place, destination, run=name, on_progress=show)
            except KeyboardInterrupt:
                message = f"interrupted: what was sent of {name!r} is kept; the same command goes on from there"
                raise Failure("interrupted", message, 130) from None
    if json:
        print_json({"source": str(place), "destination": destination, "runs": [asdict(each) for each in copied]})
        return
    columns = ("run", "epochs", "objects", "sent", "bytes sent", "results")
    rows = [
        [
            each.run,
            str(each.epochs),
            str(each.objects),
            str(each.sent),
            size(each.sent_bytes),
            str(len(each.results)),
        ]
        for each in copied
    ]
    print_table(columns, rows, numbers=columns[1:])
    for each in copied:
        if each.kept:
            say(f"{each.run}: {destination} has results of its own named {', '.join(each.kept)}; they stay as they are")


def merge(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="The joint name: big, of parts such as big+a.")],
    remove_parts: Annotated[
        bool, typer.Option("--remove-parts", help="Remove the parts once the run is whole; otherwise they stay.")
    ] = False,
    json: Json = False,
) -> None:
    """Make one run of its parts.

    It holds what one capture of all seeds would have written, and --resume continues it in the same way. It takes its
    place when it is whole; a merge that was broken off goes on where it was.
    """
    import ipstore
    from ipstore.parts import stored_parts
    from ipstore.reader import run_info

    place = specs.store_place(store)
    parts = stored_parts(place, run)
    with progress(f"merge {run}", "epochs") as show:
        try:
            ipstore.merge(place, run, remove_parts=remove_parts, on_progress=show)
        except KeyboardInterrupt:
            message = f"interrupted: the parts of {run!r} stand; the same command goes on from there"
            raise Failure("interrupted", message, 130) from None
    info = run_info(place / run)
    facts = {
        "store": str(place),
        "run": run,
        "parts": parts,
        "removed_parts": remove_parts,
        "captured_epochs": info.attrs["commit"]["epochs"],
        "seeds": info.attrs["seeds"],
        "results": list(info.results),
        "stored_bytes": info.stored_bytes,
    }
    if json:
        print_json(facts)
        return
    say(f"{run} holds {len(facts['seeds'])} seeds and {facts['captured_epochs']} epochs of {', '.join(parts)}")
    say("the parts were removed" if remove_parts else "the parts stay: remove them with --remove-parts")


def materialise(store: StoreOrRun, run: Run = None, json: Json = False) -> None:
    """Store the activations of a run that kept its weights alone.

    They are computed from the weights, and held against the digests that were taken at capture. The run is then at
    level full; until all are stored it is what it was.
    """
    import ipstore
    from ipstore.reader import run_info

    place, names = specs.stored_runs(store, run)
    done = []
    for name in names:
        if run_info(place / name).attrs["level"] != "weights" and len(names) > 1:
            continue  # of a whole store, those that need it
        with progress(f"materialise {name}", "epochs") as show:
            try:
                ipstore.materialise(place / name, on_progress=show)
            except KeyboardInterrupt:
                raise Failure("interrupted", f"interrupted: run {name!r} is as it was, at level weights", 130) from None
        done.append(run_info(place / name))
    if json:
        facts = [{"run": each.name, "level": each.attrs["level"], "stored_bytes": each.stored_bytes} for each in done]
        print_json({"store": str(place), "runs": facts})
        return
    for each in done:
        say(f"{each.name} is at level {each.attrs['level']}: {size(each.stored_bytes)} in {each.files} files")
    if not done:
        say(f"no run of {place} is at level weights")
