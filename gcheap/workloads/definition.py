"""What a workload is: its name, what it shows, its settings, how its session is made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gcheap.errors import OptionError
from gcheap.options import Option, format_size
from gcheap.text import shown


def anything(_config) -> None:
    """The check of a workload that runs with every configuration."""


def setting(name: str, kind: Callable[[Any, str], Any], default: Any, text: str,
            choices: tuple = ()) -> Option:
    """A setting of a workload, `--set name=value`: declared as the options of a heap are.

    `kind(value, label)` makes its value of what was given, or raises OptionError:
    `gcheap.options.Between(1, 9)`, `parse_size`, or one's own.  A `default` of None leaves it
    to the workload, which `text` then says.
    """
    return Option(name, kind, default, "", text, choices)


def plain_name(spelled: Any) -> Any:
    """The name of a setting that may be spelled as on the command line, `hit-ratio`."""
    return spelled.replace("-", "_") if isinstance(spelled, str) else spelled


@dataclass(frozen=True)
class Workload:
    """A workload of `gcheap stress`.

    shows       one line: what it is good at showing
    session     `session(heap, config)` makes its session on a heap; config is a StressConfig
    least       live bytes that one mutator needs; less is refused with a line
    check       `check(config)` raises OptionError for what it cannot run beyond that
    settings    what `--set` takes
    operand     the setting whose value may follow the name on the command line
    outside     bytes that it keeps outside the heap (a model, native tables) for each live byte,
                where they are worth counting: measured, for a run that would not fit is refused
    most_live   `most_live(config)`: the live bytes beyond which it grows no more
    """

    name: str
    shows: str
    session: Callable
    least: int = 0
    check: Callable = anything
    settings: tuple[Option, ...] = ()
    operand: str | None = None
    outside: float = 0.0
    most_live: Callable | None = None

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting's value: as given, else its default.  Names may have - for _.  OptionError
        for a name or a value that the workload does not accept, as it was spelled."""
        if not isinstance(given, Mapping):
            raise OptionError(f"settings {shown(given)}: expected a dict of names and values")
        known = {option.name: option for option in self.settings}
        values = {option.name: option.default for option in self.settings}
        for spelled, value in given.items():
            name = plain_name(spelled)
            if name not in known:
                raise OptionError(self._unknown(spelled))
            if value is not None:
                values[name] = known[name].validate(value, f"{self.name}: {spelled}")
        return values

    def bytes_outside(self, config) -> int:
        """What a run keeps outside the heap."""
        live = config.live
        if self.most_live is not None:
            live = min(live, self.most_live(config))
        return int(self.outside * live)

    def check_config(self, config) -> None:
        """OptionError for a configuration that the workload cannot run."""
        if config.live < self.least * config.mutators:
            each = f", {format_size(self.least)} a mutator" if config.mutators > 1 else ""
            raise OptionError(
                f"live {format_size(config.live)}: {self.name} needs at least "
                f"{format_size(self.least * config.mutators)}{each}")
        self.check(config)

    def _unknown(self, name):
        dash = "-" if "-" in str(name) else "_"
        names = [option.name.replace("_", dash) for option in self.settings]
        close = difflib.get_close_matches(str(name), names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        has = f"it has {', '.join(names)}" if names else "it has none"
        return f"{self.name} has no setting {shown(name)}: {has}{hint}"


def session_of(kind, threads: Callable | None = None) -> Callable:
    """The `session` of a Workload with one worker a mutator: `kind()` imports and returns the
    class, `threads(config)` is how many there are if not `config.mutators`."""

    def session(heap, config):
        from gcheap.workloads.session import Session

        return Session(kind(), heap, mutators=config.mutators, live=config.live, seed=config.seed,
                       settings=config.settings, threads=threads(config) if threads else None)

    return session
