"""MOVE takes swapped-out pages along without reading them in.

As root: a zram device (or, without zram, a swap file beside the tests) that the test makes, and
that a janitor process takes away again even when the test is killed.
"""
from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from uffd_support import (
    MADV_PAGEOUT,
    PAGE,
    Janitor,
    advise,
    content,
    libc,
    pagemap,
    status_kb,
)

from gcheap.userfaultfd import MoveMode, UffdError, read_memory

ZRAM_CONTROL = Path("/sys/class/zram-control")
SWAP_BYTES = 32 << 20
PAGES = 64


def make_zram(janitor: Janitor, nbytes: int = SWAP_BYTES) -> str:
    number = (ZRAM_CONTROL / "hot_add").read_text().strip()
    janitor.promise("write", str(ZRAM_CONTROL / "hot_remove"), number)
    Path(f"/sys/block/zram{number}/disksize").write_text(str(nbytes))
    device = Path(f"/dev/zram{number}")
    if not device.exists():
        pytest.skip(f"{device} does not appear (no devtmpfs here)")
    return str(device)


def make_file(janitor: Janitor, nbytes: int = SWAP_BYTES) -> str:
    fd, path = tempfile.mkstemp(prefix="gcheap-swap-", dir=Path(__file__).parent)
    janitor.promise("unlink", path)
    with os.fdopen(fd, "wb") as file:
        # Written out, not truncated: a swap file must have no holes.
        for _ in range(nbytes >> 20):
            file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    return path


@pytest.fixture(params=["zram", "file"])
def swap(root, request):
    """Some swap space more, until the end of the test."""
    if not shutil.which("mkswap"):
        pytest.skip("mkswap is not installed")
    if request.param == "zram" and not (ZRAM_CONTROL / "hot_add").exists():
        pytest.skip("this kernel has no zram")
    with Janitor() as janitor:
        path = (make_zram if request.param == "zram" else make_file)(janitor)
        subprocess.run(["mkswap", path], check=True, capture_output=True)
        janitor.promise("swapoff", path)
        if libc.swapon(path.encode(), 0):
            pytest.skip(f"swapon {path}: {os.strerror(ctypes.get_errno())}")
        yield path


def swapped(address: int) -> bool:
    return bool(pagemap(address) >> 62 & 1)


@pytest.fixture
def swapped_pages(swap, scratch):
    """PAGES pages with contents, all in swap."""
    src = scratch.filled(PAGES)
    for _ in range(20):
        advise(src, PAGES * PAGE, MADV_PAGEOUT)
        if all(swapped(src + i * PAGE) for i in range(PAGES)):
            return src
    pytest.skip("the kernel does not swap these pages out")


def test_swapped_out_pages_move_without_being_read_in(mover, scratch, swapped_pages):
    src, dst = swapped_pages, scratch.map(PAGES * PAGE)
    mover.register(dst, PAGES * PAGE)
    before = status_kb("VmSwap")
    assert before >= PAGES * PAGE // 1024
    assert mover.move(dst, src, PAGES * PAGE) == PAGES * PAGE
    assert status_kb("VmSwap") == before
    assert all(swapped(dst + i * PAGE) for i in range(PAGES))
    assert not any(swapped(src + i * PAGE) for i in range(PAGES))
    assert read_memory(dst, PAGES * PAGE) == content(1, PAGES)
    assert status_kb("VmSwap") < before
    assert read_memory(src, PAGES * PAGE) == bytes(PAGES * PAGE)


def test_a_mixture_of_swapped_present_and_missing_pages_moves(mover, scratch, swapped_pages):
    src, dst = swapped_pages, scratch.map(PAGES * PAGE)
    mover.register(dst, PAGES * PAGE)
    advise(src, PAGE, 4)                                # a hole, then pages read in again
    read_memory(src + PAGE, 4 * PAGE)
    try:
        moved = mover.move(dst, src, PAGES * PAGE, MoveMode.ALLOW_SRC_HOLES)
    except UffdError as error:                          # a page in the swap cache may be busy
        report = mover.move_all(dst + error.done, src + error.done, PAGES * PAGE - error.done,
                                MoveMode.ALLOW_SRC_HOLES)
        moved = error.done + report.done
    assert moved == PAGES * PAGE
    assert read_memory(dst + PAGE, (PAGES - 1) * PAGE) == content(2, PAGES - 1)
