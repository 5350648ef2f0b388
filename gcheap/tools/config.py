"""`gcheap config`: compiler and linker flags, for programs that embed gcheap."""
import gcheap
from gcheap.building import cflags, libs
from gcheap.tools.output import STDOUT, emit


def add(commands):
    parser = commands.add_parser(
        "config", help="compiler flags for programs that embed gcheap",
        description="Flags for programs and extension modules that include gcheap.h: "
                    "cc main.c $(gcheap config --cflags --libs). Without an option: the "
                    "directory of the headers. `python -m gcheap --cflags --libs` does the same.")
    parser.add_argument("--include", action="store_true", help="the directory of the headers")
    parser.add_argument("--cflags", action="store_true", help="flags of the compiler")
    parser.add_argument("--libs", action="store_true",
                        help="flags of the linker, for a program with a main() of its own; an "
                             "extension module needs none")
    parser.set_defaults(run=run)


def run(args):
    words = []
    if args.include or not (args.cflags or args.libs):
        words.append(gcheap.get_include())
    if args.cflags:
        words += cflags()
    if args.libs:
        words += libs()
    emit(" ".join(words) + "\n", STDOUT)
    return 0
