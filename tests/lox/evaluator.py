"""A small tree-walking evaluator of Lox that says what clox would: the tests' oracle.

`evaluate(source)` gives what a program prints, what clox prints on stderr (compile errors, or a
run-time error with its trace) and the exit status.  It follows clox where that differs from the
book's jlox: the callee is checked after its arguments, a method is looked up after them too, loops
have one variable for all iterations, initializers return `this`, 64 frames are too many.

The natives are there too, but of `clock`, `heapUsed`, `args` and `readFile` only the kind of what
they give is right, and `spawn` calls the function at once.  What a program may do is bounded by
`fuel`: a node costs one, a string or an array its length.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from lox.syntax import CompileError, Function, Node, Variable, parse

FRAMES = 64
THREADS = 8


class TooManyThreads(Exception):
    """The program started more threads than the evaluator lets it."""


class OutOfFuel(Exception):
    """The program did not end in the number of steps that it was given."""


@dataclass(frozen=True)
class Outcome:
    status: int         # 0, 65 (does not compile) or 70 (run-time error)
    out: str
    err: str


class LoxError(Exception):
    pass


class Closure:
    def __init__(self, function: Function, cells: dict[Variable, list]) -> None:
        self.function, self.cells = function, cells


class Class:
    def __init__(self, name: str) -> None:
        self.name = name
        self.methods: dict[str, Closure] = {}


class Instance:
    def __init__(self, of: Class) -> None:
        self.of = of
        self.fields: dict[str, object] = {}


class Bound:
    def __init__(self, receiver, method: Closure) -> None:
        self.receiver, self.method = receiver, method


class Native:
    def __init__(self, arity: int | None, function) -> None:
        self.arity, self.function = arity, function     # None: arguments are ignored


class Array:
    def __init__(self, length: int) -> None:
        self.elements: list = [None] * length


class Thread:
    def __init__(self, result) -> None:
        self.result = result


class Activation:
    """A call: the cells of its variables and the line that it is at."""

    def __init__(self, closure: Closure) -> None:
        self.function = closure.function
        self.cells = dict(closure.cells)
        self.line = 0


def evaluate(source: str, fuel: int = 2_000_000) -> Outcome:
    """Runs a program; OutOfFuel when it takes more than that, TooManyThreads."""
    try:
        script = parse(source)
    except CompileError as error:
        return Outcome(65, "", str(error))
    run = Evaluator(fuel)
    try:
        run.call_closure(Closure(script, {}), None, [])
    except LoxError as error:
        return Outcome(70, "".join(run.printed), f"{error}\n{run.trace()}")
    return Outcome(0, "".join(run.printed), "")


def text_of(value) -> str:
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case float():
            # 0/0 has its sign bit set on some processors, and %g shows that.
            return "nan" if math.isnan(value) else f"{value:g}"
        case str():
            return value
        case Closure():
            return f"<fn {value.function.name}>"
        case Bound():
            return text_of(value.method)
        case Class():
            return value.name
        case Instance():
            return f"{value.of.name} instance"
        case Native():
            return "<native fn>"
        case Array():
            return "<array>"
        case Thread():
            return "<thread>"
    raise AssertionError(value)


def truthy(value) -> bool:
    return value is not None and value is not False


def equal(a, b) -> bool:
    return type(a) is type(b) and (
        a == b if isinstance(a, (float, str, bool)) else a is b)


def divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


_ARITHMETIC = {"-": float.__sub__, "*": float.__mul__, "/": divide, "<": float.__lt__,
               ">": float.__gt__, "<=": lambda a, b: not a > b, ">=": lambda a, b: not a < b}


class Evaluator:
    def __init__(self, fuel: int) -> None:
        self.fuel = fuel
        self.printed: list[str] = []
        self.calls: list[Activation] = []
        self.threads = 0
        self.globals: dict[str, object] = {
            "clock": Native(None, lambda *ignored: 0.0), "gc": Native(0, lambda: None),
            "array": Native(1, self.make_array), "args": Native(0, lambda: Array(2)),
            "heapUsed": Native(0, lambda: 0.0), "readFile": Native(1, self.read_file),
            "spawn": Native(1, self.spawn), "join": Native(1, self.join)}

    def trace(self) -> str:
        return "".join(
            f"[line {call.line}] in "
            f"{'script' if call.function.name is None else call.function.name + '()'}\n"
            for call in reversed(self.calls))

    def spend(self, amount: int) -> None:
        self.fuel -= amount
        if self.fuel < 0:
            raise OutOfFuel

    def evaluate(self, node: Node):
        self.spend(1)
        return getattr(self, "_" + node.kind)(node, *node.parts)

    execute = evaluate          # of a statement: None, or (value,) when it returned

    def error(self, node: Node, message: str) -> LoxError:
        self.calls[-1].line = node.line
        return LoxError(message)

    def run(self, body: list[Node]):
        for statement in body:
            returned = self.execute(statement)
            if returned is not None:
                return returned
        return None

    # ---- calls -------------------------------------------------------------------------------

    def call(self, node: Node, callee, arguments: list):
        self.calls[-1].line = node.line
        return self.apply(callee, arguments)

    def apply(self, callee, arguments: list):
        match callee:
            case Closure():
                return self.call_closure(callee, None, arguments)
            case Bound():
                return self.call_closure(callee.method, callee.receiver, arguments)
            case Class():
                made = Instance(callee)
                if "init" in callee.methods:
                    self.call_closure(callee.methods["init"], made, arguments)
                else:
                    self.check_count(0, arguments)
                return made
            case Native():
                if callee.arity is not None:
                    self.check_count(callee.arity, arguments)
                return callee.function(*arguments)
        raise LoxError("Can only call functions and classes.")

    def check_count(self, expected: int, arguments: list) -> None:
        if len(arguments) != expected:
            raise LoxError(f"Expected {expected} arguments but got {len(arguments)}.")

    def call_closure(self, closure: Closure, receiver, arguments: list):
        function = closure.function
        self.check_count(len(function.parameters), arguments)
        if len(self.calls) == FRAMES:
            raise LoxError("Stack overflow.")
        call = Activation(closure)
        call.cells[function.this] = [receiver]
        for parameter, value in zip(function.parameters, arguments, strict=True):
            call.cells[parameter] = [value]
        self.calls.append(call)
        returned = self.run(function.body)
        self.calls.pop()
        if function.kind == "initializer":
            return receiver
        return returned[0] if returned else None

    def invoke(self, node: Node, receiver, of: Class, name: str, arguments: list):
        if name not in of.methods:
            raise self.error(node, f"Undefined property '{name}'.")
        self.calls[-1].line = node.line
        return self.call_closure(of.methods[name], receiver, arguments)

    def bind(self, node: Node, receiver, of: Class, name: str) -> Bound:
        if name not in of.methods:
            raise self.error(node, f"Undefined property '{name}'.")
        return Bound(receiver, of.methods[name])

    # ---- threads, files ----------------------------------------------------------------------

    def spawn(self, function) -> Thread:
        if not isinstance(function, (Closure, Bound, Class, Native)):
            raise LoxError("Can only call functions and classes.")
        self.threads += 1
        if self.threads > THREADS:
            raise TooManyThreads
        calls, self.calls = self.calls, []
        try:
            return Thread(self.apply(function, []))
        except LoxError:
            return Thread(None)
        finally:
            self.calls = calls

    def join(self, thread):
        if not isinstance(thread, Thread):
            raise LoxError("Can only join threads.")
        return thread.result

    def read_file(self, path) -> str:
        if not isinstance(path, str):
            raise LoxError("A path must be a string.")
        return ""

    # ---- arrays ------------------------------------------------------------------------------

    def make_array(self, length) -> Array:
        if not isinstance(length, float) or length < 0 or not length.is_integer():
            raise LoxError("Array length must be a whole number, not negative.")
        self.spend(min(int(length), self.fuel + 1))
        return Array(int(length))

    def call_array(self, node: Node, array: Array, name: str, arguments: list):
        self.calls[-1].line = node.line
        count = {"get": 1, "set": 2, "len": 0}.get(name)
        if count is None:
            raise LoxError(f"Undefined property '{name}'.")
        self.check_count(count, arguments)
        if name == "len":
            return float(len(array.elements))
        index = arguments[0]
        if not isinstance(index, float) or math.isfinite(index) and index % 1 != 0 or (
                math.isnan(index)):
            raise LoxError("Array index must be a whole number.")
        if not 0 <= index < len(array.elements):
            raise LoxError(f"Array index {index:.17g} out of bounds for length "
                           f"{len(array.elements)}.")
        if name == "set":
            array.elements[int(index)] = arguments[1]
        return array.elements[int(index)]

    # ---- declarations and statements ---------------------------------------------------------

    def store(self, name: str, target: Variable | None, value) -> None:
        if target is None:
            self.globals[name] = value
        else:
            self.calls[-1].cells[target] = [value]

    def closure(self, function: Function) -> Closure:
        cells = self.calls[-1].cells
        return Closure(function, {variable: cells[variable] for variable in function.captured})

    def _fun(self, node, name, target, function):
        self.store(name, target, None)      # a function that captures its own name has this cell
        made = self.closure(function)
        if target is None:
            self.globals[name] = made
        else:
            self.calls[-1].cells[target][0] = made

    def _var(self, node, name, target, value):
        self.store(name, target, self.evaluate(value))

    def _class(self, node, name, target, superclass, super_variable, methods):
        made = Class(name)
        self.store(name, target, made)
        if superclass is not None:
            base = self.evaluate(superclass)
            self.store("super", super_variable, base)
            if not isinstance(base, Class):
                raise self.error(node, "Superclass must be a class.")
            made.methods.update(base.methods)
        for method in methods:
            made.methods[method.name] = self.closure(method)

    def _print(self, node, value):
        text = text_of(self.evaluate(value))
        self.spend(len(text))
        self.printed.append(text + "\n")

    def _expression(self, node, value):
        self.evaluate(value)

    def _block(self, node, body):
        return self.run(body)

    def _if(self, node, condition, then, otherwise):
        if truthy(self.evaluate(condition)):
            return self.execute(then)
        return self.execute(otherwise) if otherwise else None

    def _while(self, node, condition, body, increment):
        while truthy(self.evaluate(condition)):
            returned = self.execute(body)
            if returned is not None:
                return returned
            if increment:
                self.evaluate(increment)
        return None

    def _return(self, node, value):
        return (self.evaluate(value) if value else None,)

    # ---- expressions -------------------------------------------------------------------------

    def _literal(self, node, value):
        return value

    def _read(self, node, name, target):
        if target is not None:
            return self.calls[-1].cells[target][0]
        if name not in self.globals:
            raise self.error(node, f"Undefined variable '{name}'.")
        return self.globals[name]

    def _assign(self, node, name, target, value):
        result = self.evaluate(value)
        if target is not None:
            self.calls[-1].cells[target][0] = result
        elif name in self.globals:
            self.globals[name] = result
        else:
            raise self.error(node, f"Undefined variable '{name}'.")
        return result

    def _and(self, node, left, right):
        value = self.evaluate(left)
        return self.evaluate(right) if truthy(value) else value

    def _or(self, node, left, right):
        value = self.evaluate(left)
        return value if truthy(value) else self.evaluate(right)

    def _unary(self, node, operator, operand):
        value = self.evaluate(operand)
        if operator == "!":
            return not truthy(value)
        if not isinstance(value, float):
            raise self.error(node, "Operand must be a number.")
        return -value

    def _binary(self, node, operator, left, right):
        a, b = self.evaluate(left), self.evaluate(right)
        if operator in ("==", "!="):
            return equal(a, b) == (operator == "==")
        if operator == "+":
            if isinstance(a, float) and isinstance(b, float):
                return a + b
            if isinstance(a, str) and isinstance(b, str):
                self.spend(len(a) + len(b))
                return a + b
            raise self.error(node, "Operands must be two numbers or two strings.")
        if not (isinstance(a, float) and isinstance(b, float)):
            raise self.error(node, "Operands must be numbers.")
        return _ARITHMETIC[operator](a, b)

    def _call(self, node, callee, arguments):
        function = self.evaluate(callee)
        return self.call(node, function, [self.evaluate(each) for each in arguments])

    def _invoke(self, node, target, name, arguments):
        receiver = self.evaluate(target)
        values = [self.evaluate(each) for each in arguments]
        if isinstance(receiver, Array):
            return self.call_array(node, receiver, name, values)
        if not isinstance(receiver, Instance):
            raise self.error(node, "Only instances have methods.")
        if name in receiver.fields:
            return self.call(node, receiver.fields[name], values)
        return self.invoke(node, receiver, receiver.of, name, values)

    def _get(self, node, target, name):
        receiver = self.evaluate(target)
        if not isinstance(receiver, Instance):
            raise self.error(node, "Only instances have properties.")
        if name in receiver.fields:
            return receiver.fields[name]
        return self.bind(node, receiver, receiver.of, name)

    def _set(self, node, target, name, value):
        receiver = self.evaluate(target)
        result = self.evaluate(value)
        if not isinstance(receiver, Instance):
            raise self.error(node, "Only instances have fields.")
        receiver.fields[name] = result
        return result

    def _super(self, node, name, this, superclass, arguments):
        receiver = self.evaluate(this)
        values = None if arguments is None else [self.evaluate(each) for each in arguments]
        base = self.evaluate(superclass)
        if values is None:
            return self.bind(node, receiver, base, name)
        return self.invoke(node, receiver, base, name, values)
