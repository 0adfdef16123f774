"""How many epochs and seeds one Dask task takes."""

__all__ = ["TASK_BYTES", "TASK_CELLS", "task_cells"]

TASK_BYTES = 2**26
"""Bytes of one task, at most, where one cell is smaller."""

TASK_CELLS = 40
"""(epoch, seed) cells of one task, at least, where the bytes allow: fewer cost more in scheduling than in work."""


def task_cells(shard: int, chunk: int, cell_bytes: int) -> tuple[int, int]:
    """Choose whole shards, enough cells to be worth a task, few enough bytes to fit.

    Parameters
    ----------
    shard, chunk : int
        Epochs that are stored together, and that can be read apart from others.
    cell_bytes : int
        Of one epoch of one seed.

    Returns
    -------
    (int, int)
        Epochs and seeds.
    """
    fitting = max(1, TASK_BYTES // max(1, cell_bytes))
    epochs = shard if fitting >= shard else max(1, fitting // chunk * chunk)
    return epochs, max(1, min(-(-TASK_CELLS // epochs), fitting // epochs))
