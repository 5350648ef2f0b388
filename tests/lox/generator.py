"""Programs for `evaluator.py` and gcheap.lox to disagree about: strategies of hypothesis.

A program ends, by construction.  Loops count in a variable that nothing else assigns; functions and
methods have ranks, and a body calls what has a lower rank than its own only (`super` goes up the
classes, of which there are a few); what a closure does is arithmetic.  Expressions have the type
that is wanted, so programs get far, but sometimes a value of another type stands in its place, a
name or a property is not there, or a call has an argument too many: then the program ends with that
error.  Each statement has lines of its own, so the lines of a trace tell statements apart.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

NUMBER, STRING, BOOL, OBJECT, FUNCTION = "number", "string", "bool", "object", "function"
DATA = (NUMBER, STRING, BOOL)
WORDS = ("", "a", "b", "ab", "ba", "lox", "ä", "long string, with // in it")
NUMBERS = ("0", "1", "2", "3", "0.5", "7", "10", "1000000", "123456.789")
METHODS = {"m0": NUMBER, "m1": STRING, "m2": NUMBER, "m3": BOOL, "m4": STRING}
FIELDS = {"n": NUMBER, "s": STRING, "b": BOOL}
RARE = 100                      # one of so many expressions is wrong
_BELOW = [st.integers(0, count) for count in range(100)]


@dataclass
class Class:
    name: str
    base: Class | None
    arity: int
    methods: dict[str, int] = field(default_factory=dict)      # and how many parameters

    def finds(self) -> dict[str, int]:
        return (self.base.finds() if self.base else {}) | self.methods


@dataclass
class Scope:
    """What may be named at a place."""
    data: dict[str, str] = field(default_factory=dict)          # variable: type
    fixed: set[str] = field(default_factory=set)                # not assigned: loops count in them
    objects: dict[str, Class] = field(default_factory=dict)
    closures: dict[str, int] = field(default_factory=dict)      # of numbers to a number
    functions: list[tuple[str, int, str]] = field(default_factory=list)     # name, arity, type
    classes: list[Class] = field(default_factory=list)
    methods: tuple[str, ...] = tuple(METHODS)                   # that may be called
    this: Class | None = None
    initializer: bool = False

    def inner(self, **changes) -> Scope:
        copy = Scope(dict(self.data), set(self.fixed), dict(self.objects), dict(self.closures),
                     list(self.functions), list(self.classes), self.methods, self.this,
                     self.initializer)
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy


class Writer:
    """Draws a program and writes it down."""

    def __init__(self, draw, size: int) -> None:
        self.draw, self.size = draw, size
        self.lines: list[str] = []
        self.indent = 0
        self.names = 0

    def below(self, count: int) -> int:
        return self.draw(_BELOW[count - 1])

    def pick(self, options):
        options = list(options)
        return options[self.below(len(options))]

    def rarely(self, count: int = RARE) -> bool:
        return self.below(count) == count - 1

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def line(self, text: str) -> None:
        self.lines.append("  " * self.indent + text)

    def body(self, head: str, write) -> None:
        self.line(head + " {")
        self.indent += 1
        write()
        self.indent -= 1
        self.line("}")

    # ---- expressions -------------------------------------------------------------------------

    def expression(self, scope: Scope, kind: str, depth: int = 2) -> str:
        if self.rarely():
            return self.wrong(scope, kind)
        choices = [self.literal]
        if any(k == kind for k in scope.data.values()):
            choices += [self.variable] * 2
        if depth > 0:
            choices += [getattr(self, kind)] * 3
            if scope.objects or scope.this:
                choices += [self.member] * 2
            if any(k == kind for _, _, k in scope.functions):
                choices.append(self.call)
            if kind == NUMBER and scope.closures:
                choices.append(self.closure_call)
            choices.append(self.logical)
        return self.pick(choices)(scope, kind, depth - 1)

    def literal(self, scope: Scope, kind: str, depth: int) -> str:
        if kind == NUMBER:
            return self.pick(NUMBERS)
        if kind == STRING:
            return f'"{self.pick(WORDS)}"'
        return self.pick(("true", "false"))

    def variable(self, scope: Scope, kind: str, depth: int) -> str:
        return self.pick(name for name, k in scope.data.items() if k == kind)

    def number(self, scope: Scope, kind: str, depth: int) -> str:
        left = self.expression(scope, NUMBER, depth)
        operator = self.pick(("+", "-", "*", "/", "u"))
        if operator == "u":
            return f"-({left})"
        return f"({left} {operator} {self.expression(scope, NUMBER, depth)})"

    def string(self, scope: Scope, kind: str, depth: int) -> str:
        return f"{self.expression(scope, STRING, depth)} + {self.expression(scope, STRING, depth)}"

    def bool(self, scope: Scope, kind: str, depth: int) -> str:
        if self.below(3) == 0:
            return f"!({self.expression(scope, self.pick(DATA), depth)})"
        kind = self.pick(DATA)
        operator = self.pick(("<", "<=", ">", ">=") if kind == NUMBER else ("==", "!="))
        left, right = self.expression(scope, kind, depth), self.expression(scope, kind, depth)
        return f"(({left}) {operator} ({right}))"

    def logical(self, scope: Scope, kind: str, depth: int) -> str:
        condition = self.expression(scope, BOOL, depth)
        left, right = (self.expression(scope, kind, depth) for _ in range(2))
        return f"({condition} and ({left}) or ({right}))" if kind != BOOL else (
            f"({left} {self.pick(('and', 'or'))} {right})")

    def member(self, scope: Scope, kind: str, depth: int) -> str:
        """A field or method of an object, or of this one or its superclass."""
        targets = dict(scope.objects)
        if scope.this:
            targets["this"] = scope.this
            if scope.this.base and not scope.initializer:
                targets["super"] = scope.this.base
        target = self.pick(targets)
        cls = targets[target]
        names = [m for m in cls.finds() if METHODS[m] == kind and m in scope.methods]
        if names and (target == "super" or self.below(2)):
            method = self.pick(names)
            call = f"{target}.{method}"
            if self.below(5) == 0:
                call = f"({call})"              # a bound method that is called later
            return f"{call}({self.arguments(scope, cls.finds()[method], depth)})"
        if target == "super":
            return self.literal(scope, kind, depth)
        return f"{target}.{self.pick(f for f, k in FIELDS.items() if k == kind)}"

    def arguments(self, scope: Scope, count: int, depth: int) -> str:
        count += self.rarely()
        return ", ".join(self.expression(scope, NUMBER, depth) for _ in range(count))

    def call(self, scope: Scope, kind: str, depth: int) -> str:
        name, arity, _ = self.pick(f for f in scope.functions if f[2] == kind)
        return f"{name}({self.arguments(scope, arity, depth)})"

    def closure_call(self, scope: Scope, kind: str, depth: int) -> str:
        name = self.pick(scope.closures)
        return f"{name}({self.arguments(scope, scope.closures[name], depth)})"

    def instance(self, scope: Scope, cls: Class) -> str:
        return f"{cls.name}({self.arguments(scope, cls.arity, 1)})"

    def wrong(self, scope: Scope, kind: str) -> str:
        """Something that is no value of this type, or no value at all."""
        choices = ["nil", "nothing", "nil.field", "clock", '("text")(1)', "-nil", "(1).m0()"]
        choices += [self.literal(scope, k, 0) for k in DATA if k != kind]
        choices += [*scope.objects, *scope.closures, *(c.name for c in scope.classes)]
        choices += [f"{o}.missing" for o in scope.objects]
        choices += [f"{o}.missing(1, 2)" for o in scope.objects]
        choices += [f"{o}.n(1)" for o in scope.objects]
        return self.pick(choices)

    # ---- statements --------------------------------------------------------------------------

    def statements(self, scope: Scope, count: int, depth: int) -> None:
        for _ in range(1 + self.below(count)):
            self.statement(scope, depth)

    def statement(self, scope: Scope, depth: int) -> None:
        choices = [self.print, self.print, self.declare, self.assign, self.field]
        if scope.classes:
            choices += [self.make]
        if depth > 0:
            choices += [self.branch, self.loop, self.block, self.closure]
        self.pick(choices)(scope, depth - 1)

    def print(self, scope: Scope, depth: int) -> None:
        everything = [*scope.objects, *scope.closures, *(c.name for c in scope.classes),
                      *(f[0] for f in scope.functions),
                      *(f"{o}.{m}" for o, c in scope.objects.items() for m in c.finds())]
        if everything and self.below(6) == 0:
            self.line(f"print {self.pick(everything)};")
        else:
            self.line(f"print {self.expression(scope, self.pick(DATA))};")

    def declare(self, scope: Scope, depth: int) -> None:
        kind = self.pick(DATA)
        value = self.expression(scope, kind)
        name = self.name("v")
        self.line(f"var {name} = {value};")
        scope.data[name] = kind

    def assign(self, scope: Scope, depth: int) -> None:
        names = [name for name in scope.data if name not in scope.fixed]
        if not names:
            return self.declare(scope, depth)
        name = self.pick(names)
        self.line(f"{name} = {self.expression(scope, scope.data[name])};")

    def field(self, scope: Scope, depth: int) -> None:
        targets = [*scope.objects, *(["this"] if scope.this else [])]
        if not targets:
            return self.declare(scope, depth)
        name, kind = self.pick(FIELDS.items())
        self.line(f"{self.pick(targets)}.{name} = {self.expression(scope, kind)};")

    def make(self, scope: Scope, depth: int) -> None:
        cls = self.pick(scope.classes)
        value = self.instance(scope, cls)
        name = self.name("o")
        self.line(f"var {name} = {value};")
        scope.objects[name] = cls

    def branch(self, scope: Scope, depth: int) -> None:
        self.body(f"if ({self.expression(scope, BOOL)})",
                  lambda: self.statements(scope.inner(), 2, depth))
        if self.below(2):
            self.body("else", lambda: self.statements(scope.inner(), 2, depth))

    def loop(self, scope: Scope, depth: int) -> None:
        name = self.name("i")
        inner = scope.inner(data=scope.data | {name: NUMBER}, fixed=scope.fixed | {name})
        times = self.below(4)
        if self.below(2):
            self.body(f"for (var {name} = 0; {name} < {times}; {name} = {name} + 1)",
                      lambda: self.statements(inner, 3, depth))
            return
        self.line(f"var {name} = 0;")
        scope.data[name] = NUMBER
        scope.fixed.add(name)
        self.body(f"while ({name} < {times})", lambda: (
            self.line(f"{name} = {name} + 1;"), self.statements(inner, 3, depth)))

    def block(self, scope: Scope, depth: int) -> None:
        self.body("", lambda: self.statements(scope.inner(), 3, depth))

    def closure(self, scope: Scope, depth: int) -> None:
        """A function that captures variables: of the block, or of a function that returns it."""
        name, own = self.name("c"), self.name("k")
        kept = [n for n, k in scope.data.items() if k == NUMBER and n not in scope.fixed]
        parameters = [self.name("p") for _ in range(self.below(3))]
        captured = [own, *kept[:2]]

        def inner(called: str) -> None:
            read = Scope(data=dict.fromkeys([*captured, *parameters], NUMBER))
            self.body(f"fun {called}({', '.join(parameters)})", lambda: (
                self.line(f"{self.pick(captured)} = {self.expression(read, NUMBER)};"),
                self.line(f"return {self.pick(captured)} + 1;")))

        start = self.expression(scope, NUMBER)
        if self.below(2):
            self.line(f"var {own} = {start};")
            scope.data[own] = NUMBER
            inner(name)
        else:
            self.body(f"fun {name}_maker({own})", lambda: (inner("made"), self.line(
                "return made;")))
            self.line(f"var {name} = {name}_maker({start});")
        scope.closures[name] = len(parameters)

    # ---- declarations of the script ----------------------------------------------------------

    def function(self, scope: Scope) -> None:
        name, kind = self.name("f"), self.pick(DATA)
        parameters = [self.name("p") for _ in range(self.below(3))]
        inner = scope.inner(data=dict.fromkeys(parameters, NUMBER), objects={}, closures={},
                            fixed=set())
        self.body(f"fun {name}({', '.join(parameters)})", lambda: (
            self.statements(inner, 3, 1),
            self.line(f"return {self.expression(inner, kind)};")))
        scope.functions.append((name, len(parameters), kind))

    def recursion(self, scope: Scope) -> None:
        """A function that calls itself, at times too deeply."""
        name, inner = self.name("f"), Scope(data={"n": NUMBER})
        self.body(f"fun {name}(n)", lambda: (
            self.line("if (n <= 0) return 0;"),
            self.line(f"return {name}(n - 1) + {self.expression(inner, NUMBER, 1)};")))
        depth = self.pick((0, 1, 5, 61, 62, 63, 70) if self.rarely(4) else (0, 1, 5))
        self.line(f"print {name}({depth});")

    def klass(self, scope: Scope) -> None:
        base = self.pick([None, *scope.classes])
        cls = Class(self.name("C"), base, self.below(3))
        methods = [m for m in METHODS if self.below(2)]
        self.body(f"class {cls.name}" + (f" < {base.name}" if base else ""), lambda: (
            self.initializer(scope, cls), *(self.method(scope, cls, m) for m in methods)))
        scope.classes.append(cls)

    def initializer(self, scope: Scope, cls: Class) -> None:
        parameters = [self.name("p") for _ in range(cls.arity)]
        inner = Scope(data=dict.fromkeys(parameters, NUMBER))

        def write() -> None:
            if cls.base:
                self.line(f"super.init({self.arguments(inner, cls.base.arity, 1)});")
            for name, kind in FIELDS.items():
                if not cls.base or self.below(2):
                    self.line(f"this.{name} = {self.expression(inner, kind, 1)};")
        self.body(f"init({', '.join(parameters)})", write)

    def method(self, scope: Scope, cls: Class, name: str) -> None:
        # One that overrides another has its parameters: it is called as that is.
        found = cls.finds().get(name)
        count = self.below(3) if found is None else found
        parameters = [self.name("p") for _ in range(count)]
        lower = tuple(METHODS)[:tuple(METHODS).index(name)]
        inner = Scope(data=dict.fromkeys(parameters, NUMBER), methods=lower, this=cls,
                      classes=list(scope.classes))
        self.body(f"{name}({', '.join(parameters)})", lambda: (
            self.statements(inner, 2, 1),
            self.line(f"return {self.expression(inner, METHODS[name])};")))
        cls.methods[name] = count

    def program(self) -> str:
        scope = Scope()
        for _ in range(2 + self.below(self.size)):
            self.pick((self.klass, self.function, self.klass, self.function, self.recursion))(scope)
            self.statements(scope, 4, 2)
        for name in scope.data:
            self.line(f"print {name};")
        return "\n".join(self.lines) + "\n"


@st.composite
def programs(draw, size: int = 5) -> str:
    """Sources of some classes and functions (up to `size` + 1), with statements between them."""
    return Writer(draw, size).program()
