"""`Userfaultfd`: one descriptor, its registered ranges, its events."""
from __future__ import annotations

import mmap
import numbers
import operator
import os
import select
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, Union, cast

from gcheap.text import shown
from gcheap.timeouts import checked_timeout
from gcheap.userfaultfd import events as _events
from gcheap.userfaultfd._ioctls import Descriptor, address_of
from gcheap.userfaultfd.bell import Bell
from gcheap.userfaultfd.events import Event, PagefaultEvent
from gcheap.userfaultfd.flags import (
    ContinueMode,
    CopyMode,
    FaultFlags,
    Features,
    Ioctls,
    MoveMode,
    PoisonMode,
    RegisterMode,
    WriteProtectMode,
    ZeropageMode,
    bits,
)
from gcheap.userfaultfd.kept import KeptBuffers
from gcheap.userfaultfd.moving import MoveReport, move_all
from gcheap.userfaultfd.opening import open_descriptor
from gcheap.userfaultfd.problems import MissingFeatures, refused

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer

# An address, or a buffer, which stands for the address of its first byte (mmap, memoryview
# slices of one, numpy arrays ...).
Memory: TypeAlias = Union[int, "Buffer"]

MOST_POLL_MS = 86_400_000       # poll() takes an int of milliseconds; it is asked again

_making_bells = threading.Lock()


class Userfaultfd:
    """A userfaultfd: non-blocking, close-on-exec, its handshake made.

    features        `Features` to enable.  `MissingFeatures` (an UffdError) names what this
                    kernel lacks and what it has.
    user_mode_only  True: faults inside system calls are not handled (such a call fails with
                    EFAULT); all that ordinary users get by default.  False: both kinds, or
                    UffdError.  None: both if permitted, else user mode only; see the attribute
                    of the same name.
    path            a device file in place of the system call; by default the system call is
                    tried first and /dev/userfaultfd (Linux 6.1) next.

    Has `fileno()` for select, poll and asyncio (readable: an event waits).  A context manager;
    `close()` unregisters everything, and threads that wait for a page go on with zeros.

    Threads: any thread may call any method, none holds the GIL while it is in the kernel.
    Fork: the descriptor is inherited, and in a child its ioctls act on the memory of the
    *parent* (MOVE is EINVAL there): close it in the child first of all.  The child's memory is
    not registered, its missing pages read as zeros, unless EVENT_FORK is on.
    """

    def __init__(self, features: Features | int = 0,
                 user_mode_only: bool | None = None,
                 path: str | os.PathLike[str] | None = None) -> None:
        wanted = Features(bits(features, Features))
        fd, restricted, how = open_descriptor(user_mode_only, path)
        self._set_up(fd, wanted, restricted, how)
        try:
            offered, ioctls, errno = self._descriptor.handshake(wanted.value)
            if errno:
                # A refused handshake may be made again; the empty one tells what there is.
                offered, _, silent = self._descriptor.handshake(0)
                if not silent and wanted.value & ~offered:
                    raise MissingFeatures(wanted, Features(offered))
                raise refused("API", errno)
        except BaseException:
            self.close()
            raise
        self._supported = Features(offered)
        self._ioctls = Ioctls(ioctls)

    @classmethod
    def adopt(cls, fd: int, features: Features | int = 0) -> Self:
        """Takes over a descriptor from elsewhere (SCM_RIGHTS, pidfd_getfd), handshake made.

        It acts on the memory of the process that made it.  `features` are those it was made
        with: they say how events are read.  The descriptor becomes non-blocking and
        close-on-exec, and is closed by `close`.
        """
        wanted = Features(bits(features, Features))
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self = cls.__new__(cls)
        self._set_up(fd, wanted, None, "adopted")
        self._supported = wanted
        self._ioctls = Ioctls(0)
        return self

    def _set_up(self, fd: int, features: Features, restricted: bool | None, how: str) -> None:
        self._descriptor = Descriptor(fd)
        self._features = features
        self._restricted = restricted
        self._how = how
        self._kept = KeptBuffers()
        self._stopping: Bell | None = None
        self._closing: Bell | None = None

    @property
    def features(self) -> Features:
        """What was enabled."""
        return self._features

    @property
    def supported(self) -> Features:
        """What this kernel has."""
        return self._supported

    @property
    def ioctls(self) -> Ioctls:
        """The ioctls of the descriptor; those of a range are what `register` returns."""
        return self._ioctls

    @property
    def user_mode_only(self) -> bool | None:
        """Whether faults inside system calls are left out; None for an adopted descriptor."""
        return self._restricted

    @property
    def opened_by(self) -> str:
        """"syscall", "device" or "adopted"."""
        return self._how

    @property
    def closed(self) -> bool:
        return self._descriptor.closed

    def fileno(self) -> int:
        """The descriptor's number.  ValueError after `close`."""
        return self._descriptor.fileno()

    def close(self) -> None:
        """Unregisters everything and ends `serve`; twice is harmless.

        Threads that wait for a page go on and find zeros.  Calls of other threads that are in
        the kernel now are finished before the descriptor is given back.
        """
        self._descriptor.close()
        if self._closing is not None:
            self._closing.ring()                # nobody takes it: everybody who waits leaves
        self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None and not descriptor.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"fd={self.fileno()}"
        return f"<Userfaultfd {where} {self._features}>"

    # -- ranges --------------------------------------------------------------------------

    def register(self, memory: Memory, length: int | None = None,
                 modes: RegisterMode | int = RegisterMode.MISSING) -> Ioctls:
        """From now on faults in the range are handled through this descriptor.  [4.3]

        `length` in bytes, a multiple of the page size; for a buffer all of it by default.  A
        buffer must be writable and stays alive and exported until it is unregistered or this
        is closed (an mmap cannot be closed or resized meanwhile: BufferError).  Registering
        again adds modes.  Returns the ioctls that the range has.

        UffdError: EINVAL (alignment; memory of a kind this mode lacks; not mapped), EBUSY
        (registered with another descriptor), EPERM (not writable), ENOMEM (too many mappings).
        """
        start, span, view = self._range(memory, length)
        ioctls, errno = self._descriptor.register(start, span, bits(modes, RegisterMode))
        if errno:
            raise refused("REGISTER", errno)
        if view is not None:
            self._kept.add(start, start + span, view)
        return Ioctls(ioctls)

    def unregister(self, memory: Memory, length: int | None = None) -> None:
        """The range is ordinary memory again; threads that wait for a page in it find zeros.

        UffdError: EINVAL (alignment; not mapped; another descriptor's), ENOMEM.  [4.3]
        """
        start, span, _ = self._range(memory, length)
        errno = self._descriptor.unregister(start, span)
        if errno:
            raise refused("UNREGISTER", errno)
        self._kept.remove(start, start + span)

    # -- pages ---------------------------------------------------------------------------
    # Each returns the bytes done (all of them) or raises UffdError, whose `done` tells how
    # much was done before the refusal.

    def copy(self, dst: Memory, src: Memory, length: int, mode: CopyMode | int = 0) -> int:
        """Puts a copy of [src, src + length) into missing pages at dst, and wakes.  [4.3]

        `src` may be any readable memory (bytes too).  UffdError: EEXIST (mapped already),
        ENOENT (not registered), EFAULT (source unreadable), EAGAIN (short, or an unread event),
        EINVAL, ENOMEM, ESRCH (the process has exited).
        """
        with _Span(dst, length, writable=True) as to, _Span(src, length) as of:
            return self._done("COPY", length, self._descriptor.copy(
                to.start, of.start, length, bits(mode, CopyMode)))

    def move(self, dst: Memory, src: Memory, length: int, mode: MoveMode | int = 0) -> int:
        """Moves the pages of [src, src + length) into missing pages at dst, and wakes.  [6.8]

        No byte is copied; the source is empty afterwards, and reads as zeros (or faults again,
        where it is registered itself).  Both ranges: private anonymous memory of this process.
        UffdError: EBUSY (shared after fork, KSM, pinned), ENOENT (a hole in the source), EEXIST
        (dst mapped: by somebody, or on Linux 6.18 by this very call, which then has not counted
        what it moved; docs/reference/userfaultfd.md), EAGAIN (short, or an unread event),
        EINVAL, ENOMEM, ESRCH.
        """
        with _Span(dst, length, writable=True) as to, _Span(src, length, writable=True) as of:
            return self._done("MOVE", length, self._descriptor.move(
                to.start, of.start, length, bits(mode, MoveMode)))

    def move_all(self, dst: Memory, src: Memory, length: int, mode: MoveMode | int = 0, *,
                 fallback: str | None = "copy", patience: float = 1.0) -> MoveReport:
        """`move` until all is done: goes on after short answers, copies what cannot move.

        fallback  "copy": pages that answer EBUSY are copied, one by one (they stay in the
                  source as well); None: EBUSY is raised.
        patience  seconds for which EAGAIN without any progress is retried: it passes, unless
                  this very thread ought to read an event.

        Returns a `MoveReport`.  An UffdError carries the report so far as `report`, and `done`.
        """
        if fallback not in ("copy", None):
            raise ValueError(f"fallback={fallback!r}: expected 'copy' or None")
        with _Span(dst, length, writable=True) as to, _Span(src, length, writable=True) as of:
            return move_all(self._descriptor, to.start, of.start, length, bits(mode, MoveMode),
                            fallback == "copy", patience)

    def zeropage(self, start: Memory, length: int, mode: ZeropageMode | int = 0) -> int:
        """Maps the zero page into missing pages, and wakes.  [4.3]

        UffdError: EEXIST, ENOENT (not registered), EAGAIN, EINVAL (hugetlbfs), ENOMEM, ESRCH.
        """
        with _Span(start, length, writable=True) as at:
            return self._done("ZEROPAGE", length, self._descriptor.zeropage(
                at.start, length, bits(mode, ZeropageMode)))

    def writeprotect(self, start: Memory, length: int,
                     mode: WriteProtectMode | int = WriteProtectMode.WP) -> int:
        """Protects the pages against writes; with mode 0 lifts it, and wakes.  [5.7]

        Anonymous memory; shared memory and hugetlbfs since 5.19.  Pages that are not there
        stay unprotected, unless WP_UNPOPULATED is on.  UffdError: ENOENT (not registered with
        RegisterMode.WP), EAGAIN (an unread event), EINVAL, ESRCH.
        """
        with _Span(start, length, writable=True) as at:
            return self._done("WRITEPROTECT", length, self._descriptor.writeprotect(
                at.start, length, bits(mode, WriteProtectMode)))

    def continue_(self, start: Memory, length: int, mode: ContinueMode | int = 0) -> int:
        """Maps pages that the page cache has already (a minor fault), and wakes.  [5.13]

        hugetlbfs; shared memory since 5.14.  UffdError: EFAULT (not in the page cache), EEXIST,
        ENOENT (not registered), EAGAIN, EINVAL, ENOMEM, ESRCH.
        """
        with _Span(start, length, writable=True) as at:
            return self._done("CONTINUE", length, self._descriptor.continue_(
                at.start, length, bits(mode, ContinueMode)))

    def poison(self, start: Memory, length: int, mode: PoisonMode | int = 0) -> int:
        """Marks missing pages so that a touch is SIGBUS, as after a memory error.  [6.6]

        UffdError: EEXIST, ENOENT (not registered), EAGAIN, EINVAL, ENOMEM, ESRCH.
        """
        with _Span(start, length, writable=True) as at:
            return self._done("POISON", length, self._descriptor.poison(
                at.start, length, bits(mode, PoisonMode)))

    def wake(self, start: Memory, length: int) -> int:
        """Wakes the threads that wait in the range: they touch their page again.  [4.3]

        UffdError: EINVAL (alignment).
        """
        with _Span(start, length) as at:
            return self._done("WAKE", length, self._descriptor.wake(at.start, length))

    # -- events --------------------------------------------------------------------------

    def read_events(self, max_events: int = 16, timeout: float | None = 0.0) -> list[Event]:
        """The events that wait, at most `max_events` (64 at once); [] when there are none.

        timeout  seconds to wait for the first one; None: until one comes.

        A page fault event is delivered once: whoever reads it must see to the page (or `wake`
        it, so that the thread faults again).  Events other than page faults let the thread that
        caused them go on by being read.
        """
        if operator.index(max_events) < 1:
            raise ValueError(f"max_events={shown(max_events)}: expected a positive number")
        if timeout is not None:
            timeout = checked_timeout(timeout, "read_events")
        found = self._read(max_events)
        if found or timeout == 0.0:
            return found
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = self._poll()
        while not found:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            poll.poll(None if left is None else min(1000 * left, MOST_POLL_MS))
            found = self._read(max_events)
            if deadline is not None and time.monotonic() >= deadline:
                break
        return found

    def serve(self, handler: Callable[[Event], object]) -> int:
        """Calls `handler(event)` for each event, in this thread, until `stop` or `close`.

        Returns the number of events handled.  When the handler raises, the exception comes out
        here and nothing is lost: a page fault of which the handler made nothing is reported
        again to the next reader.
        """
        handled = 0
        poll = self._poll()
        stopping = self._bells()[0]
        poll.register(stopping.fd, select.POLLIN)
        while True:
            poll.poll()
            if stopping.take() or self.closed:
                return handled
            # One at a time: what was read and not handled would be lost with an exception.
            for event in self._read(1):
                try:
                    handler(event)
                except BaseException:
                    if isinstance(event, PagefaultEvent) and not self.closed:
                        self._descriptor.wake(event.page, mmap.PAGESIZE)
                    raise
                handled += 1

    def stop(self) -> None:
        """Ends the `serve` that runs, or the next one.  Any thread, also from the handler."""
        self._bells()[0].ring()

    # -- inside --------------------------------------------------------------------------

    def _range(self, memory: Memory,
               length: int | None) -> tuple[int, int, memoryview | None]:
        if length is None:
            if isinstance(memory, numbers.Integral):
                raise TypeError("an address needs a length")
            with memoryview(cast("Buffer", memory)) as view:
                length = view.nbytes
        span = _Span(memory, length, writable=True)
        return span.start, operator.index(length), span.view

    def _done(self, ioctl: str, length: int, answer: tuple[int, int]) -> int:
        done, errno = answer
        if errno:
            raise refused(ioctl, errno, done, length)
        return done

    def _bells(self) -> tuple[Bell, Bell]:
        """Made on first use: (stop was said, close was said)."""
        with _making_bells:
            if self._stopping is None or self._closing is None:
                self._stopping, self._closing = Bell(), Bell()
            return self._stopping, self._closing

    def _poll(self) -> select.poll:
        """Wakes for an event and for `close`, which by itself wakes no poll."""
        closing = self._bells()[1]
        poll = select.poll()
        poll.register(closing.fd, select.POLLIN)
        poll.register(self.fileno(), select.POLLIN)
        return poll

    def _read(self, room: int) -> list[Event]:
        messages, errno = self._descriptor.read(room)
        if errno:
            raise refused("read", errno)
        return [self._typed(*message) for message in messages]

    def _typed(self, kind: int, a: int, b: int, c: int) -> Event:
        if kind == _events.PAGEFAULT:
            thread = c & 0xFFFFFFFF if Features.THREAD_ID in self._features else None
            return PagefaultEvent(b, FaultFlags(a), thread)
        if kind == _events.FORK:
            return _events.ForkEvent(type(self).adopt(a & 0xFFFFFFFF, self._features))
        if kind == _events.REMAP:
            return _events.RemapEvent(a, b, c)
        if kind == _events.REMOVE:
            return _events.RemoveEvent(a, b)
        if kind == _events.UNMAP:
            return _events.UnmapEvent(a, b)
        raise RuntimeError(f"the kernel sent event {kind:#x}, which this version does not know")


class _Span:
    """The address that a `Memory` stands for; a buffer is held until the end of the block."""

    __slots__ = ("start", "view")

    def __init__(self, memory: Memory, length: int, writable: bool = False) -> None:
        self.view: memoryview | None = None
        if isinstance(memory, numbers.Integral):        # numpy.int64 too, which has a buffer
            self.start = int(memory)
        else:
            self.view = memoryview(cast("Buffer", memory))
            if writable and self.view.readonly:
                raise TypeError(f"a writable buffer is needed, not a read-only "
                                f"{type(memory).__name__}")
            if self.view.nbytes < length:
                raise ValueError(f"length {length}: the buffer has {self.view.nbytes} bytes")
            self.start = address_of(self.view)
        if not 0 <= self.start < 1 << 64 or not 0 <= length < 1 << 64:
            raise ValueError(f"address {self.start:#x}, length {length}: expected 64-bit "
                             "unsigned numbers")

    def __enter__(self) -> _Span:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.view is not None:
            self.view.release()
