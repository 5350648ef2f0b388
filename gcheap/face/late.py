"""numpy, imported when it is first used: most programs that embed gcheap never do."""
from importlib import import_module
from typing import Any


class _Late:
    """Stands for a module; what was asked of it once is an attribute."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


np: Any = _Late("numpy")
