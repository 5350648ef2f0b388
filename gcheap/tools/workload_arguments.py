"""Which workloads a command line names, and their settings."""
from rich.text import Text

from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.text import shown
from gcheap.tools.arguments import flag
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING
from gcheap.workloads import DEFAULT, WORKLOADS, find
from gcheap.workloads.definition import plain_name

NAMES = f"{', '.join(WORKLOADS)} (default {DEFAULT})"


def add_set(parser):
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=VALUE",
        help="a setting of a workload (gcheap stress --list has them); repeatable")


def chosen(words, settings):
    """[(name, {setting: value})] of WORKLOAD words and --set values.

    The word after a workload with an operand (`replay FILE`) is that operand, unless it names a
    workload.  A setting goes to every workload that has it; OptionError when none has.
    """
    found = []
    words = list(words) or [DEFAULT]
    while words:
        workload = find(words.pop(0))
        values = {}
        if workload.operand and words and words[0] not in WORKLOADS:
            values[workload.operand] = words.pop(0)
        found.append((workload, values))
    for text in settings:
        typed, value = _pair(text)
        name = plain_name(typed)
        takers = [values for workload, values in found
                  if name in {option.name for option in workload.settings}]
        for values in takers:
            for spelled in [key for key in values if plain_name(key) == name]:
                del values[spelled]             # the last one counts
            values[typed] = value
        if not takers:
            # One workload says what it has; of several none is to blame.
            found[0][0].resolve({typed: value})
    return [(workload.name, values) for workload, values in found]


def files_read(workloads):
    """Paths that the workloads, as `chosen` returns them, are given to read."""
    return [values[operand] for name, values in workloads
            if (operand := find(name).operand) and values.get(operand)]


def _pair(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise OptionError(f"--set {shown(text)}: expected NAME=VALUE")
    return name, value


# ---- the list ------------------------------------------------------------------------------

def table():
    """Every workload: what it is good at showing, the least live bytes, its settings."""
    made = new_table()
    made.add_column("workload", style="bold", no_wrap=True)
    made.add_column("least live", no_wrap=True)
    made.add_column("good at showing; its settings")
    for name in WORKLOADS:
        try:
            workload = find(name)
        except OptionError as error:        # a plug-in that is broken hides no other
            made.add_row(name, NOTHING, str(error))
            continue
        made.add_row(name, least(workload), workload.shows)
        for option in workload.settings:
            made.add_row("", "", Text(f"--set {setting_text(option)}: {option.help}", style="dim"))
    return made


def document():
    """The same as plain data; what cannot be loaded has an "error" instead."""
    return [_described(name) for name in WORKLOADS]


def _described(name):
    try:
        workload = find(name)
    except OptionError as error:
        return {"name": name, "error": str(error)}
    return {"name": name, "shows": workload.shows, "least_bytes": workload.least,
            "operand": workload.operand,
            "settings": [{"name": option.name, "accepted": option.accepted,
                          "default": option.default, "help": option.help}
                         for option in workload.settings]}


def markdown(workloads):
    """The table of docs/reference/workloads.md."""
    rows = ["| workload | good at showing | least live bytes a mutator | settings |",
            "|---|---|---|---|"]
    for workload in workloads:
        settings = "; ".join(f"`{setting_text(option)}` {option.help}"
                             for option in workload.settings)
        rows.append(f"| `{workload.name}` | {workload.shows} | {least(workload)} | {settings} |")
    return "\n".join(rows) + "\n"


def least(workload):
    return format_size(workload.least) if workload.least else NOTHING


def setting_text(option):
    """`hit-ratio=0 to 100 (90)`: name, what is accepted, the default."""
    default = option.default
    if option.kind == "size":
        accepted, default = "SIZE", format_size(default)
    else:
        accepted = "TEXT" if option.accepted == "any" else option.accepted
    told = "" if default is None else f" ({default})"
    return f"{flag(option.name)[2:]}={accepted}{told}"
