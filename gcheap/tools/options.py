"""`gcheap options`: every option of a heap, as a table, JSON, or the page of the documentation."""
import os

from gcheap.options import OPTIONS, format_size, resolve
from gcheap.tools.arguments import add_json
from gcheap.tools.consoles import result_console
from gcheap.tools.output import STDOUT, check_target, emit, emit_json
from gcheap.tools.tables import new_table

PAGE_HEAD = """\
# Options of a heap

Made from the table in `gcheap/options.py` by `gcheap options --markdown`.

An option is given by name, `gcheap.Heap("256MiB", backend="copy")`; where it is not, or is `None`,
the environment variable counts; where that is not set, the default. A value that is not accepted,
and a `GCHEAP_` variable that nothing has, raise `gcheap.OptionError`, which names the variable
where that is what is wrong. (No option's are `GCHEAP_FAILPOINTS`, of [failpoints](failpoints.md),
and what the build reads: `GCHEAP_BUILD`, `GCHEAP_NO_FAILPOINTS`, `GCHEAP_NO_TRACING`.) Integers are
digits 0 to 9 and nothing else. `gcheap options` shows the values that the environment gives now.

| option | type | accepted | default | environment variable | meaning |
|---|---|---|---|---|---|
"""


def add(commands):
    parser = commands.add_parser(
        "options", help="the options of a heap, and what the environment sets them to",
        description="Every option of a heap: type, accepted values, default, environment variable "
                    "and the value that it has here. Exit status: 0, or 2 when the environment "
                    "holds a value that is not accepted.")
    parser.add_argument("--markdown", action="store_true",
                        help="print docs/reference/options.md instead; the environment does not "
                             "matter")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    if args.markdown:
        emit(page(), STDOUT)
        return 0
    if args.json:
        check_target(args.json)
    rows = document(os.environ)
    if args.json != "-":
        show(rows, result_console(args.json))
    if args.json:
        emit_json({"options": rows}, args.json)
    return 0


def document(environ):
    """One dict an option, in the order of the table; OptionError for a bad environment."""
    values = resolve({}, environ)
    return [{"name": option.name, "type": option.kind, "accepted": option.accepted,
             "default": option.default, "environment": option.env,
             "value": _plain(values[option.name]), "set_by_environment": option.env in environ,
             "help": option.help}
            for option in OPTIONS]


def _plain(value):
    """A policy as its text; anything else as it is."""
    return value if isinstance(value, (int, str)) else str(value)


def show(rows, console):
    """Print the rows as a table: a pure function of them."""
    table = new_table()
    for name in ("option and\nenvironment variable", "type", "default", "now"):
        table.add_column(name, no_wrap=True)
    table.add_column("meaning, and what is accepted", overflow="fold", ratio=1)
    for row in rows:
        now = format_size(row["value"]) if row["type"] == "size" else str(row["value"])
        now += "\n(environment)" if row["set_by_environment"] else ""
        table.add_row(f"{row['name']}\n{row['environment']}", row["type"], str(row["default"]), now,
                      f"{row['help']} [{row['accepted']}]".replace("[", "\\["))
    console.print(table)


def page():
    """docs/reference/options.md."""
    return PAGE_HEAD + "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in (
            f"`{option.name}`", option.kind, option.accepted, f"`{option.default}`",
            f"`{option.env}`", option.help)) + " |\n"
        for option in OPTIONS)
