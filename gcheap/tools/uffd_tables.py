"""Tables of `gcheap bench uffd`: a pure function of its JSON document."""
from rich.text import Text

from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration, number, percent

CLAIMS = ("allocated", "recycled")
ENOUGH = 0.9                    # of its CPU for the thread beside, or the machine was busy
BESIDE = {0: "alone", 1: "beside a running thread"}
SHORT = {0: "alone", 1: "+1 thread"}


def show(document, console):
    """Print every table."""
    config = document["config"]
    pages = format_size(config["pages"] * document["machine"]["page_size"])
    console.print(Text(machine_line(document)))
    console.print(Text(f"{counted(document['rounds'], 'round')} of {number(config['pages'])} "
                       f"pages ({pages}) a sample, medians"))
    for threads in config["threads"]:
        console.print()
        console.print(costs_table(document, threads))
    for table in (faults_table(document), huge_table(document), claims_table(document)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    for claim in CLAIMS:
        published = document["published"][claim]
        console.print(Text(f"published, {claim}: {published['text']} "
                           f"(COPY / MOVE {published['copy_over_move']:.2f})"))
    ran = document["other_thread_ran"]
    if ran["median"] is not None:
        console.print(Text(f"the running thread had its CPU {percent(ran['median'])} of the "
                           f"time ({percent(ran['low'])}–{percent(ran['high'])})"))
        if ran["median"] < ENOUGH:
            console.print(Text("other processes run here: what is measured beside a running "
                               "thread was in part measured alone", style="yellow"))
    for what, why in document["skipped"].items():
        console.print(Text(f"not measured: {what}: {why}", style="yellow"))
    coverage = document["interval"]["coverage"]
    console.print(Text(f"low–high: bootstrap interval of the median, "
                       f"{100 * coverage:.0f} % coverage at "
                       f"{counted(document['rounds'], 'round')}"))


def machine_line(document):
    return f"{describe(document)}, pages of {format_size(document['machine']['page_size'])}"


def costs_table(document, threads):
    """Rows: operations; columns: pages per call."""
    cells = {(row["operation"], row["batch"]): row["ns_per_page"]["median"]
             for row in document["costs"] if row["threads"] == threads}
    batches = document["config"]["batches"]
    table = titled(f"ns per page, by pages per call, {BESIDE[threads]}", "",
                   *map(str, batches))
    for name in dict.fromkeys(name for name, _ in cells):
        table.add_row(name, *(three_figures(cells.get((name, batch))) for batch in batches))
    return table


def faults_table(document):
    table = titled("one fault, its pages brought by MOVE", "served by", "pages",
                   *(heading for threads in document["config"]["threads"]
                     for heading in (SHORT[threads], "low–high")))
    cells = {(row["served_by"], row["pages_per_fault"], row["threads"]): row["ns_per_fault"]
             for row in document["faults"]}
    for name, pages in sorted({(name, pages) for name, pages, _ in cells},
                              key=lambda row: (row[0] != "sigbus", row[1])):
        table.add_row(name, str(pages), *(
            text for threads in document["config"]["threads"]
            for text in spread(cells.get((name, pages, threads)))))
    return table


def huge_table(document):
    size = document["config"]["huge_bytes"]
    table = titled(f"{format_size(size)} at once" if size else "", "",
                   *(heading for threads in document["config"]["threads"]
                     for heading in (SHORT[threads], "low–high")))
    labels = {"move": "MOVE, one huge page", "copy": "COPY, small pages",
              "fault": "first touch"}
    cells = {(row["operation"], row["threads"]): row["ns"] for row in document["huge_pages"]}
    for name, label in labels.items():
        if (name, 0) in cells:
            table.add_row(label, *(text for threads in document["config"]["threads"]
                                   for text in spread(cells.get((name, threads)))))
    return table


def claims_table(document):
    table = titled("COPY against MOVE, ns per page", "pages are", "batch", "other threads",
                   "COPY", "MOVE", "COPY / MOVE", "low–high")
    for claim in CLAIMS:
        for row in document["claims"]:
            if row["claim"] == claim:
                ratio = row["copy_over_move"]
                table.add_row(
                    claim, str(row["batch"]), str(row["threads"]),
                    three_figures(row["copy_ns_per_page"]["median"]),
                    three_figures(row["move_ns_per_page"]["median"]),
                    f"{ratio['median']:.2f}", f"{ratio['low']:.2f}–{ratio['high']:.2f}")
        table.add_section()
    return table


def titled(title, *headings):
    table = new_table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if table.columns else "left", no_wrap=True)
    return table


def spread(row):
    """(median, interval) of a summary of nanoseconds."""
    if row is None or row["median"] is None:
        return NOTHING, NOTHING
    return duration(row["median"]), f"{duration(row['low'])}–{duration(row['high'])}"


def three_figures(nanoseconds):
    """Whole nanoseconds, three significant digits."""
    return NOTHING if nanoseconds is None else number(float(f"{nanoseconds:.3g}"))
