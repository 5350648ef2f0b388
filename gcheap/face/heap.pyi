from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from gcheap.face.mutator import Mutator
from gcheap.face.shape import Shape
from gcheap.policy import Policy
from gcheap.statistics import HeapStats

PAUSE_DTYPE: np.dtype
CYCLE_DTYPE: np.dtype

@disjoint_base
class Heap:
    def __init__(
        self,
        capacity: int | str | None = None,
        *,
        backend: str | None = None,
        faults: str | None = None,
        unit_pages: int | None = None,
        batch_units: int | None = None,
        huge_pages: str | None = None,
        policy: Policy | str | None = None,
        stall_warning_ms: int | None = None,
        idle_ms: int | None = None,
        verify: int | None = None,
        safepoint_warning_ms: int | None = None,
        relocate: str | None = None,
        collect_every: int | None = None,
        delay_placements_us: int | None = None,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, *exc: type[BaseException] | BaseException | TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...
    def shape(
        self,
        name: str,
        refs: Iterable[str] = (),
        raw: npt.DTypeLike | tuple[()] = (),
        tag: tuple[int, int] | None = None,
    ) -> Shape: ...
    def attach(self, name: str | None = None) -> Mutator: ...
    def collect(self, wait: bool = True) -> None: ...
    def stats(self) -> HeapStats: ...
    def pauses(self) -> np.ndarray: ...
    def cycles(self) -> np.ndarray: ...
    def histogram(self, name: str) -> tuple[np.ndarray, np.ndarray, int]: ...
    def resident_bytes(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def backend(self) -> str: ...
    @property
    def fault_mode(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def unit_pages(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def verify(self) -> int: ...
    @property
    def closed(self) -> bool: ...
