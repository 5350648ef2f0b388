"""A matplotlib figure as a piece of an HTML page.

matplotlib bakes colours in; a page has a light and a dark theme, and paper.  So figures are drawn
in colours that stand for CSS variables (`INK`), and the text of the SVG gets the variables in
their place.  Text stays text, in the page's font.  Ids get a prefix, because a page holds many
figures; what belongs to a run has a class, so that the page can hide it.
"""
from __future__ import annotations

import io
import re

from gcheap.errors import GcheapError
from gcheap.text import printable

WIDE, NARROW = 9.2, 3.9         # inches: about 1,000 and 375 pixels on the screen
MOST_RUNS = 8                   # that a reader can tell apart by colour

# A colour that matplotlib draws in -> the variable of style.css that it stands for.
INK = {"ink": "#101010", "muted": "#707070", "grid": "#d0d0d0", "noise": "#909090",
       "surface": "#fefefe"}
INK |= {f"run-{number}": f"#10{number:02x}f0" for number in range(1, MOST_RUNS + 1)}
INK |= {f"phase-{name}": f"#20{at:02x}f0" for at, name in enumerate(
    ("mark", "weak", "plan", "relocate", "pause"), 1)}
INK |= {f"bytes-{name}": f"#30{at:02x}f0" for at, name in enumerate(
    ("used", "live", "limit", "resident", "recycled", "rss"), 1)}

_RC = {
    "svg.fonttype": "none", "svg.hashsalt": "gcheap", "path.simplify": True,
    "font.size": 9.5, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.linewidth": 0.8, "lines.linewidth": 1.6,
    "text.color": INK["ink"], "axes.labelcolor": INK["muted"], "axes.edgecolor": INK["grid"],
    "xtick.color": INK["grid"], "ytick.color": INK["grid"], "xtick.labelcolor": INK["muted"],
    "ytick.labelcolor": INK["muted"], "grid.color": INK["grid"], "grid.linewidth": 0.6,
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.w_pad": 0.04,
    "text.parse_math": False, "figure.facecolor": "none", "axes.facecolor": "none",
}


def _matplotlib():
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GcheapError("a report needs matplotlib: pip install 'gcheap[plot]' "
                          f"({error})") from None
    return matplotlib, Figure


def check_drawing() -> None:
    """GcheapError when there is nothing to draw with; called before a run is spent on it."""
    _matplotlib()


def drawn(name, alt, draw, *arguments) -> str:
    """Both widths of a figure as HTML; the page shows the one that fits.

    draw(figure, narrow, *arguments) draws it and may change its height; `alt` says in words what
    is to be seen.
    """
    matplotlib, figure_class = _matplotlib()
    parts = []
    with matplotlib.rc_context(_RC):
        for kind, width in (("wide", WIDE), ("narrow", NARROW)):
            figure = figure_class(figsize=(width, 3.0))
            draw(figure, kind == "narrow", *arguments)
            parts.append(f'<div class="{kind}">{_svg(figure, f"{name}-{kind}", alt)}</div>')
    return "".join(parts)


def run_class(artist, number):
    """Marks an artist as one of run `number` (from 1)."""
    artist.set_gid(f"run-{number}")
    return artist


def _svg(figure, prefix, alt):
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None,
                                                   "Format": None})
    text = stream.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'<g id="run-(\d+)">', r'<g class="run run-\1">', text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\1{prefix}-", text)
    # The page's own font; its size stays.
    text = re.sub(r"(font:[^;\"]*?px) [^;\"]*", r"\1 var(--font)", text)
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    for name, colour in INK.items():
        text = text.replace(colour, f"var(--{name})")
    head = re.match(r"<svg[^>]*>", text).group()
    box = re.search(r'viewBox="[^"]*"', head).group()
    opening = (f'<svg {box} role="img" aria-label="{_attribute(alt)}" '
               'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">')
    return re.sub(r"\s*\n\s*", "\n", opening + text[len(head):])


def _attribute(text):
    for plain, escaped in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, escaped)
    return printable(text)
