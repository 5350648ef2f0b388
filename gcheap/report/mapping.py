"""The page map of a document as SVG: a square a cell, a path a kind, in the page's colours."""
from __future__ import annotations

from markupsafe import Markup

from gcheap.pagemap import KINDS

NAMES = {letter: name.replace(" ", "-") for name, letter in KINDS.items()}
DENSITIES = 10                  # shades of how full a unit was
SIDE, GAP = 8, 1.2              # of a cell, in units of the drawing
NARROW_COLUMNS, WIDE_COLUMNS = 48, 96


def pictures(space):
    """The parts of one space: [(title, text, wide SVG, narrow SVG)]."""
    units, per_cell = space["units"], space["units_per_cell"]
    parts = []
    live = space["before"]["live_percent"]
    if live:
        classes = ["unknown" if share < 0 else
                   f"live-{min(DENSITIES, round(max(0, share) * DENSITIES / 100))}"
                   for share in live]
        parts.append(_part("Before: from-space, by how much of each unit lives", classes,
                           units, per_cell))
    if space["during"]:
        for title, key in (("Meanwhile: from-space", "from"), ("Meanwhile: to-space", "to")):
            if space["during"][key]:
                parts.append(_part(title, _classes(space["during"][key]), units, per_cell))
    if space["after"]["to"]:
        parts.append(_part("After: to-space, by who placed each unit",
                           _classes(space["after"]["to"]), units, per_cell))
    return parts


def _classes(letters):
    return [NAMES.get(letter, "empty") for letter in letters]


def _part(title, classes, units, per_cell):
    cells = -(-units // max(per_cell, 1))
    classes = (classes + ["empty"] * max(0, cells - len(classes)))[:1 << 13]
    return {"title": title, "wide": _svg(title, classes, WIDE_COLUMNS),
            "narrow": _svg(title, classes, NARROW_COLUMNS)}


def _svg(title, classes, columns):
    rows = -(-len(classes) // columns)
    paths = {}
    for at, name in enumerate(classes):
        x, y = at % columns * SIDE, at // columns * SIDE
        side = f"{SIDE - GAP:g}"
        paths.setdefault(name, []).append(f"M{x} {y}h{side}v{side}h-{side}z")
    body = "".join(f'<path class="cell-{name}" d="{"".join(steps)}"/>'
                   for name, steps in sorted(paths.items()))
    return Markup(f'<svg viewBox="0 0 {columns * SIDE} {rows * SIDE}" role="img" '
                  f'aria-label="{title}" xmlns="http://www.w3.org/2000/svg">{body}</svg>')
