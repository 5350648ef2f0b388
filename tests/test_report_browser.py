"""The report in a real browser: it fits, it says nothing on the console, it fetches nothing."""
from __future__ import annotations

import html
import re

import pytest
from report_support import CHROMIUM, browse, measured

pytest.importorskip("matplotlib")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.sigbus_only("a report is drawn from a document"),
    pytest.mark.uninstrumented("a browser has nothing to do with it"),
    pytest.mark.xdist_group("report"),
]

# A frame, because a headless window is never as narrow as a phone.  srcdoc: the same origin.
FRAME = """<!DOCTYPE html><title>frame</title><style>body {{ margin: 0 }}</style>
<iframe id="page" style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const inside = event.target.contentDocument;
  const visible = element => element.getClientRects().length > 0;
  const wide = [...inside.querySelectorAll("svg")].filter(visible).filter(
    svg => svg.getBoundingClientRect().right > {width} + 1).length;
  const texts = [...inside.querySelectorAll("svg text")].filter(visible);
  const smallest = Math.min(...texts.map(text => text.getBoundingClientRect().height));
  document.title = "measured";
  document.body.dataset.width = inside.documentElement.scrollWidth;
  document.body.dataset.wide = wide;
  document.body.dataset.texts = texts.length;
  document.body.dataset.smallest = Math.round(smallest);
  document.body.dataset.fetched = event.target.contentWindow.performance
    .getEntriesByType("resource").length;
}});
</script>"""


LONG = "a-very-long-name-" * 20 + ".json"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of one run, and of three: their files have names that are longer than any line."""
    from gcheap.report import Run, write_report
    folder = tmp_path_factory.mktemp("report")
    runs = [Run(LONG, measured()), Run("b.json", measured(backend="stw")),
            Run("c.json", measured("array-holes"))]
    write_report(runs[:1], str(folder / "one.html"))
    write_report(runs, str(folder / "three.html"))
    return folder


@pytest.fixture
def page(pages):
    return pages / "three.html"


@pytest.mark.parametrize(("name", "width"), [("one", 390), ("three", 390), ("three", 768)])
def test_it_fits_every_width_and_its_text_can_be_read(pages, name, width, tmp_path):
    frame = tmp_path / "frame.html"
    text = (pages / f"{name}.html").read_text()
    frame.write_text(FRAME.format(width=width, page=html.escape(text)))
    dom, console = browse(str(frame), "--dump-dom", "--window-size=1400,1000",
                          "--virtual-time-budget=5000")
    assert console == ""
    found = {name: int(value) for name, value in re.findall(r'data-(\w+)="(\d+)"', dom)}
    assert found["width"] == width, "it scrolls sideways"
    assert found["wide"] == 0
    assert found["texts"] > 50 and found["smallest"] >= 9
    assert found["fetched"] == 0


def test_it_can_fetch_nothing_even_if_something_were_in_it(page, tmp_path):
    text = page.read_text()
    assert not re.search(r"(?:src|href)=\"(?!#)", text) and not re.search(r"url\((?!#)", text)
    assert "<script" not in text and "@import" not in text
    planted = tmp_path / "planted.html"
    planted.write_text(text.replace("</main>", """<img src="http://127.0.0.1:9/a.png">
<script>document.title = "ran"</script></main>"""))
    dom, console = browse(str(planted), "--dump-dom")
    assert "<title>ran</title>" not in dom
    assert console.count("Content Security Policy") >= 2


def test_a_picture_of_it_is_not_blank(page, tmp_path):
    from PIL import Image
    shot = tmp_path / "shot.png"
    for theme in ([], ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]):
        _, console = browse(str(page), f"--screenshot={shot}", "--window-size=1200,2400", *theme)
        assert console == ""
        picture = Image.open(shot).convert("RGB")
        colours = {colour: count for count, colour in picture.getcolors(1 << 24)}
        ground = max(colours, key=colours.get)
        assert len(colours) > 200, "text and curves have many shades"
        assert (sum(ground) < 200) == bool(theme)
