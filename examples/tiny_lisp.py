"""A Lisp whose every cell lives in a gcheap heap.  docs/tutorial/tiny-lisp.md builds it.

python examples/tiny_lisp.py [program.lisp]     runs a program; without one: a prompt
"""
import itertools
import pathlib
import re
import sys

import gcheap


class LispError(Exception):
    """What a program did wrong."""


def number(n):
    """A Python int as a tagged value: 61 bits, two's complement, above the tag 1."""
    if not -2**60 <= n < 2**60:
        raise LispError(f"{n} does not fit a number of 61 bits")
    return gcheap.Tagged((n * 8 + 1) % 2**64)


def integer(value):
    """The Python int of a number."""
    if not isinstance(value, gcheap.Tagged) or value.word % 8 != 1:
        raise LispError(f"expected a number, not {value!r}")
    return (value.word - 2**64 if value.word >= 2**63 else value.word) // 8


class Lisp:
    """An interpreter with a heap of its own; belongs to the thread that made it."""

    def __init__(self, capacity="64MiB", **options):
        self.heap = gcheap.Heap(capacity, **options)
        self.m = self.heap.attach()
        self.Pair = self.heap.shape("pair", refs=("car", "cdr"))
        self.Symbol = self.heap.shape("symbol", refs=("name",))
        self.Closure = self.heap.shape("closure", refs=("params", "body", "env"))
        self.symbols = self.heap.weak_value_table()
        self.true = self.symbol("t")
        self.special = {self.symbol(name): name for name in
                        ("quote", "if", "define", "lambda")}
        self.globals = None             # a list of pairs (symbol . value)
        for i, name in enumerate(PRIMITIVES):
            self.define(self.symbol(name), gcheap.Tagged(8 * i + 3))

    def cons(self, car, cdr):
        return self.m.new(self.Pair, car=car, cdr=cdr)

    def symbol(self, name):
        return self.symbols.setdefault(
            name, lambda: self.m.new(self.Symbol, name=self.m.new_bytes(name.encode())))

    def define(self, name, value):
        self.globals = self.cons(self.cons(name, value), self.globals)

    def is_a(self, value, shape):
        return isinstance(value, gcheap.Ref) and value.shape is shape

    def pair(self, value):
        if not self.is_a(value, self.Pair):
            raise LispError("expected a pair")
        return value


PRIMITIVES = {
    "+": lambda lisp, a, b: number(integer(a) + integer(b)),
    "-": lambda lisp, a, b: number(integer(a) - integer(b)),
    "*": lambda lisp, a, b: number(integer(a) * integer(b)),
    "<": lambda lisp, a, b: lisp.true if integer(a) < integer(b) else None,
    "eq": lambda lisp, a, b: lisp.true if a == b else None,
    "cons": lambda lisp, a, b: lisp.cons(a, b),
    "car": lambda lisp, a: lisp.pair(a).car,
    "cdr": lambda lisp, a: lisp.pair(a).cdr,
    "null": lambda lisp, a: lisp.true if a is None else None,
    "append": lambda lisp, a, b: lisp.m.new_bytes(bytes(a) + bytes(b)),
}


TOKEN = re.compile(r"""\s*(?:;[^\n]*|("[^"]*"|[()'"]|[^\s()'";]+))""")


def tokens(source):
    """The tokens of a program: parentheses, quotes, strings with their quotes, words."""
    return (token for token in TOKEN.findall(source) if token)


def parse(lisp, stream):
    """The next expression of a stream of tokens."""
    token = next(stream, "")
    if token in ("", '"', ")"):
        raise LispError("a list ends that has not begun" if token == ")" else
                        "a string does not end" if token else "an expression or a ) is missing")
    if token == "'":
        return lisp.cons(lisp.symbol("quote"), lisp.cons(parse(lisp, stream), None))
    if token == "(":
        items, made = [], None
        while (token := next(stream, "")) != ")":
            items.append(parse(lisp, itertools.chain([token] if token else [], stream)))
        for item in reversed(items):
            made = lisp.cons(item, made)
        return made
    if token.startswith('"'):
        return lisp.m.new_bytes(token[1:-1].encode())
    if token.lstrip("-").isdigit():
        return number(int(token))
    return lisp.symbol(token) if token != "nil" else None


def show(lisp, value):
    """A value as text that parse() reads."""
    if value is None or isinstance(value, gcheap.Tagged):
        return "nil" if value is None else str(integer(value)) if value.word % 8 == 1 else "<code>"
    if isinstance(value, gcheap.RawArray):
        return f'"{bytes(value).decode()}"'
    if not lisp.is_a(value, lisp.Pair):
        return bytes(value.name).decode() if lisp.is_a(value, lisp.Symbol) else "<closure>"
    parts = [show(lisp, value.car)]
    while lisp.is_a(value := value.cdr, lisp.Pair):
        parts.append(show(lisp, value.car))
    return f"({' '.join(parts)})"


def find(lisp, name, env):
    """The pair (name . value) in an environment or among the globals."""
    for scope in (env, lisp.globals):
        while scope is not None and scope.car.car != name:
            scope = scope.cdr
        if scope is not None:
            return scope.car
    raise LispError(f"{show(lisp, name)} has no value")


def bind(lisp, params, args, env):
    """The environment inside a call."""
    for value in args:
        env = lisp.cons(lisp.cons(lisp.pair(params).car, value), env)
        params = params.cdr
    if params is not None:
        raise LispError("too few arguments")
    return env


def evaluate(lisp, x, env=None):
    """The value of an expression."""
    while True:
        if lisp.is_a(x, lisp.Symbol):
            return find(lisp, x, env).cdr
        if not lisp.is_a(x, lisp.Pair):
            return x
        form, rest = isinstance(x.car, gcheap.Ref) and lisp.special.get(x.car), x.cdr
        if form == "quote":
            return rest.car
        if form == "if":
            chosen = rest.cdr if evaluate(lisp, rest.car, env) is not None else rest.cdr.cdr
            x = None if chosen is None else chosen.car
        elif form == "define":
            lisp.define(rest.car, evaluate(lisp, rest.cdr.car, env))
            return rest.car
        elif form == "lambda":
            return lisp.m.new(lisp.Closure, params=rest.car, body=rest.cdr.car, env=env)
        else:
            function, args = evaluate(lisp, x.car, env), []
            while rest is not None:
                args.append(evaluate(lisp, rest.car, env))
                rest = rest.cdr
            if isinstance(function, gcheap.Tagged) and function.word % 8 == 3:
                return list(PRIMITIVES.values())[function.word // 8](lisp, *args)
            if not lisp.is_a(function, lisp.Closure):
                raise LispError(f"{show(lisp, function)} is no function")
            x, env = function.body, bind(lisp, function.params, args, function.env)


def interpret(lisp, source):
    """Evaluates a program; returns the text of its last value."""
    stream, value = tokens(source), None
    for token in stream:
        value = evaluate(lisp, parse(lisp, itertools.chain([token], stream)))
    return show(lisp, value)


def main(arguments):
    lisp = Lisp()
    while True:
        try:
            if arguments:
                return print(interpret(lisp, pathlib.Path(arguments[0]).read_text()))
            print(interpret(lisp, input("> ")))
        except EOFError:
            return print(lisp.heap.stats())
        except Exception as error:      # whatever a program does wrong, or its file
            if arguments:
                sys.exit(f"{arguments[0]}: {error!r}")
            print(repr(error))


if __name__ == "__main__":
    main(sys.argv[1:])
