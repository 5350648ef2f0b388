"""A checkout is not an installation: what `import gcheap` does in a source tree.

`python -m gcheap` in the checkout finds the package's sources first, which have no compiled
modules unless they were built in place.  Then the installed copy is used instead.
"""
from __future__ import annotations

import sys
from pathlib import Path


def _is_built(package: Path) -> bool:
    return any((package / "face").glob("heap.*.so"))


def use_installed_copy(path: list[str]) -> None:
    """Points a package's `__path__` to the installed copy if this one has not been built.

    Raises ImportError when there is none.
    """
    here = Path(path[0]).resolve()
    if _is_built(here):
        return
    for entry in sys.path:
        package = Path(entry or ".").resolve() / "gcheap"
        if package != here and _is_built(package):
            path[:] = [str(package)]
            return
    raise ImportError(
        f"{here} is gcheap's source, not built, and no installed gcheap is on sys.path; "
        f"run `python -m pip install .` there")
