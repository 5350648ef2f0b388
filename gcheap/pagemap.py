"""Names for the codes of `Heap.page_map()`, and its rows as cells of a picture."""
from __future__ import annotations

import numpy as np

SPACES = ("small", "runs", "huge")      # `space`: objects of at most half a unit, larger, huge
STATES = ("empty", "used", "unclaimed", "assembling", "assembled", "placing", "placed",
          "source", "evacuated", "taken")
OWNERS = ("nobody", "compactor", "mutator")             # `by`
# What a picture shows of a unit: its state, and of a placed one who placed it.  A letter for each
# stands in documents.
KINDS = {"empty": ".", "used": "u", "unclaimed": "-", "in hand": "h", "compactor": "c",
         "mutator": "m", "source": "s", "evacuated": "e", "taken": "t"}
_KIND_OF_STATE = np.array([0, 1, 2, 3, 3, 3, 4, 6, 7, 8], "u1")
_LETTERS = "".join(KINDS.values())
_MUTATOR = list(KINDS).index("mutator")
_USED, _PLACED = STATES.index("used"), STATES.index("placed")


def kinds(rows: np.ndarray) -> np.ndarray:
    """The index into KINDS of each row of a page map."""
    found = _KIND_OF_STATE[rows["state"]]
    found[rows["by"] == OWNERS.index("mutator")] = _MUTATOR
    return found


def is_relocating(rows: np.ndarray) -> bool:
    """Whether a page map was read while pages were travelling: some unit was not placed, or some
    page of the old half not released."""
    state = rows["state"]
    return bool((((state > _USED) & (state < _PLACED)) | (state > _PLACED)).any())


def grouped(kinds: np.ndarray, per_cell: int) -> np.ndarray:
    """The commonest kind of every `per_cell` units; of equally common ones the later in KINDS."""
    if per_cell == 1 or not len(kinds):
        return kinds
    starts = np.arange(0, len(kinds), per_cell)
    counts = np.array([np.add.reduceat(kinds == kind, starts) for kind in range(len(KINDS))])
    return (len(KINDS) - 1 - counts[::-1].argmax(axis=0)).astype("u1")


def cells(rows: np.ndarray, per_cell: int) -> str:
    """The rows of one half as text: a letter of KINDS for every `per_cell` units."""
    return "".join(_LETTERS[kind] for kind in grouped(kinds(rows), per_cell))


def live_percent(rows: np.ndarray, per_cell: int, unit_bytes: int) -> list[int]:
    """How much of every `per_cell` units was live, in percent of them; -1 where it is not known."""
    if not len(rows):
        return []
    starts = np.arange(0, len(rows), per_cell)
    nbytes = np.diff(np.append(starts, len(rows))) * unit_bytes
    live = np.add.reduceat(np.maximum(rows["live_bytes"], 0).astype(np.int64), starts)
    unknown = np.add.reduceat(rows["live_bytes"] < 0, starts) > 0
    return np.where(unknown, -1, np.rint(100 * live / nbytes)).astype(int).tolist()
