"""Modules that are imported when they are first used: numpy, which most programs that embed gcheap
never need, and what stands on it.  A `gcheap lox` is done before numpy would be imported."""
from importlib import import_module
from typing import Any


class Late:
    """Stands for a module; what was asked of it once is an attribute."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


np: Any = Late("numpy")
tables: Any = Late("gcheap.records")
