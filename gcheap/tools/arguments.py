"""Arguments of more than one command: their types, and the heap's options as data."""
import argparse
import math
import os
import sys

from gcheap.errors import GcheapError
from gcheap.options import BY_NAME, format_size, parse_size, plain_float, plain_int, resolve
from gcheap.text import printable, shown

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and that takes no abbreviations.

    Without abbreviations `--live` can never come to mean a later `--live-view`.
    """

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.usage_status = EXIT_USAGE      # of a command whose manners are not ours
        self.prepare = list                 # the words, before they are parsed

    def parse_known_args(self, args=None, namespace=None):
        """Of a command with a status of its own: complains itself of what it does not know."""
        args = self.prepare(sys.argv[1:] if args is None else args)
        known, rest = super().parse_known_args(args, namespace)
        if rest and self.usage_status != EXIT_USAGE:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest

    def error(self, message):
        line = printable(" ".join(message.split()))
        self.exit(self.usage_status, f"{self.prog}: error: {line} (see {self.prog} --help)\n")


def accepted(check):
    """An argparse type from a function that raises GcheapError for what it does not accept."""
    def convert(text):
        try:
            return check(text)
        except GcheapError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


size_argument = accepted(parse_size)
capacity_argument = accepted(BY_NAME["capacity"].validate)


def any_int(text):
    try:
        return plain_int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number") from None


def positive_int(text):
    return _number(text, plain_int, "a whole number above 0")


def positive_seconds(text):
    return _number(text, plain_float, "a number of seconds above 0")


def file_name(text):
    """An empty name, of an unset variable perhaps, must not mean "no file"."""
    if not text:
        raise argparse.ArgumentTypeError("'': expected the name of a file")
    return text


def add_json(parser):
    parser.add_argument(
        "--json", type=file_name, metavar="FILE|-",
        help="write the results as JSON to FILE, whole or not at all; - is standard output, "
             "and everything else then goes to standard error")


def add_heap_options(parser, names):
    """`--backend` and so on for options of `gcheap.Heap`; None where not given."""
    for name in names:
        option = BY_NAME[name]
        choices = "{" + ",".join(map(str, option.choices)) + "}" if option.choices else None
        parser.add_argument(
            flag(name), type=accepted(option.validate), metavar=choices or name.upper(),
            help=f"{option.help} (default {option.default}; environment {option.env})")


def add_rounds(parser, default, of=""):
    parser.add_argument("--rounds", type=positive_int, default=default, metavar="N",
                        help=f"rounds{of} (default {default})")


def add_live(parser, default, of=""):
    """`--live` of a command that has live data of one size."""
    parser.add_argument("--live", type=size_argument, default=default, metavar="SIZE",
                        help=f"live bytes{of} (default {format_size(default)})")


def add_mutators(parser, whose=""):
    """`--mutators` of a command that measures."""
    parser.add_argument("--mutators", type=positive_int, default=1, metavar="N",
                        help=f"mutator threads{whose} (default 1)")


def add_seed(parser, whose):
    parser.add_argument("--seed", type=any_int, default=1, metavar="N",
                        help=f"{whose} (default 1)")


def add_common(parser, run, names, seed=None):
    """What ends the arguments of every suite that makes heaps: the options `names` of them, the
    seed where one is `seed` ("of every run"), where the results go."""
    add_heap_options(parser, names)
    if seed is not None:
        add_seed(parser, seed)
    add_json(parser)
    parser.set_defaults(run=run)


def add_policy(parser):
    """`--policy`, for commands that measure: their default is the whole capacity."""
    option = BY_NAME["policy"]
    parser.add_argument(
        "--policy", type=accepted(option.validate), metavar="POLICY",
        help=f"{option.help} (default fixed; environment {option.env})")


def heap_options(args, names):
    """The values of `names`: as given, else from the environment, else the default."""
    return {name: value for name, value in resolve(settled(args, names)).items() if name in names}


def settle_heap_options(args, names):
    """Puts those values where the given ones stand."""
    for name, value in heap_options(args, names).items():
        setattr(args, name, value)


def settled(args, names):
    """The values that stand there, by name."""
    return {name: getattr(args, name) for name in names}


def default_capacity(args):
    """`--capacity`, else GCHEAP_CAPACITY, else None (the command's own default)."""
    option = BY_NAME["capacity"]
    if args.capacity is None and option.env in os.environ:
        return option.validate(os.environ[option.env], option.env)
    return args.capacity


def flag(name):
    return "--" + name.replace("_", "-")


def _number(text, kind, wanted):
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {wanted}")
    return value
