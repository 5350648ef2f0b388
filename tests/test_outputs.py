"""What gcheap writes: names are shown, never obeyed; files are whole or as they were."""
from __future__ import annotations

import errno
import io
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import PATIENCE, ROOT, Child, node_shape, run_cleanly, run_python
from test_bench_uffd import config, made_up, summarized

import gcheap
from gcheap import cli, files, text
from gcheap.core import _testing
from gcheap.tools import consoles, output, plots, tables

# An escape sequence that colours, one that moves the cursor in a single C1 character, line ends,
# a carriage return that hides what is before it, reordering, and what rich, HTML, Markdown, JSON,
# a shell and matplotlib take for more than text.
HOSTILE = ["\x1b[31mred", "\x9b2J", "one\ntwo", "a\rb", "\u202eevil", "a\u2028b", "tab\tbell\x07",
           "[bold red]x[/]", "[/nothing]", ":boom:", "<script>alert(1)</script>", "|`*_#\\",
           '"}], "x": [{', "$(reboot)", "$\\frac{", "\ud800", "\x7f", "ä µ 語"]
ALL = "".join(HOSTILE)
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="not root: cannot become somebody else")


def harmless(shown: str) -> bool:
    return all(line.isprintable() for line in shown.split("\n"))


# ---- text ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_what_is_printable_stays_and_the_rest_is_escaped(name):
    shown = text.printable(name)
    assert shown.isprintable()
    assert (shown == name) == name.isprintable()
    assert text.printable(shown) == shown
    if "\\" not in name:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == name


def test_a_value_is_shown_in_any_case_and_never_at_length():
    class Rude:
        def __repr__(self):
            return "\x1b[2J\n" * 1000

    for value in (10**5000, "x" * 10**6, b"\x1b" * 10**6, Rude(), list(range(10**5)), [Rude()]):
        assert harmless(text.shown(value)) and len(text.shown(value)) <= 6 * text.MOST
    assert text.shown("a'b") == repr("a'b")


# ---- names of shapes -------------------------------------------------------------------------

@pytest.mark.parametrize("name", [*HOSTILE, ALL, "x" * 100_000], ids=lambda name: ascii(name)[:20])
def test_a_shape_may_be_called_anything_and_no_message_obeys_it(any_heap, any_mutator, name):
    shape = any_heap.shape(name, refs=("next",), raw=[("key", "u1")])
    ref = any_mutator.new(shape)
    with gcheap.Heap("1MiB") as other, other.attach() as m:
        wrong = (lambda: ref.nothing, lambda: setattr(ref, "key", 256),
                 lambda: setattr(ref, "next", 5), lambda: any_mutator.new(shape, none=1),
                 lambda: any_heap.shape(name), lambda: m.new(shape),
                 lambda: any_heap.shape(name + "2", refs=("class",)),
                 lambda: any_heap.shape(name + "2", raw="no such type" + name))
        said = []
        for mistake in wrong:
            with pytest.raises((AttributeError, OverflowError, TypeError, ValueError)) as caught:
                mistake()
            said.append(str(caught.value))
    said += [repr(ref), repr(shape), str(any_heap.why_alive(ref)), repr(any_heap.referrers(ref))]
    for line in said:
        assert line.isprintable() and len(line) < 3000
    # As data it is the name itself.
    assert any_heap.census()["shape"].tolist() == [name] == [shape.name]


def test_a_full_heap_names_its_shapes_on_one_line(any_heap, any_mutator):
    shape = any_heap.shape(ALL, raw="V50000")
    kept = []
    with pytest.raises(gcheap.HeapExhausted) as caught:
        while True:
            kept.append(any_mutator.new(shape))
    assert str(caught.value).isprintable() and r"\x1b[31mred" in str(caught.value)


@pytest.mark.parametrize("bad", ["", "\0", "a\0", "a\0b", 5, None, b"a"], ids=ascii)
def test_what_is_no_name(any_heap, bad):
    """numpy's strings, which a census has, end at the last character that is not NUL."""
    with pytest.raises(gcheap.ShapeError, match="shape name"):
        any_heap.shape(bad)


def test_a_snapshot_is_ascii_json_with_the_names_as_they_are(any_heap, any_mutator, tmp_path):
    kept = [any_mutator.new(any_heap.shape(name)) for name in HOSTILE]
    any_heap.snapshot(tmp_path / "s")
    raw = (tmp_path / "s").read_bytes()
    assert raw.isascii() and harmless(raw.decode())
    assert set(HOSTILE) <= set(json.loads(raw)["strings"])
    assert kept


# ---- names of mutators -----------------------------------------------------------------------

@pytest.mark.parametrize("name", [*HOSTILE, ALL, "語" * 31, "a\0b", ""], ids=ascii)
def test_a_mutator_may_be_called_anything(any_heap, name):
    with any_heap.attach(name) as m:
        ref = m.new(node_shape(any_heap))
        _testing.push_root(m.native(), ref)
        root, = (root for root, _ in any_heap.referrers(ref) if root.mutator is not None)
        _testing.pop_root(m.native())
    assert root.mutator.isprintable() and len(root.mutator.encode()) <= 31
    assert all(given == kept or kept == "?"
               for given, kept in zip(name, root.mutator, strict=False))
    assert str(root).isprintable()


@pytest.mark.parametrize(("name", "kept"), [
    (b"plain", b"plain"), (b"\x1b[31m\n\r\x7f", b"?[31m???"), ("\x9b2J\x85".encode(), b"??2J??"),
    ("ä µ 語".encode(), "ä µ 語".encode()), (b"\xc2", b"\xc2"), (b"x" * 40, b"x" * 31)])
def test_nor_do_native_threads_write_control_codes(name, kept):
    assert _testing.named(name) == kept


def test_the_line_of_a_stall_is_one_line():
    done = run_python("""
        import gcheap
        from gcheap import failpoints
        heap = gcheap.Heap("8MiB", policy="fixed", stall_warning_ms=1)
        name = "\\x1b[2J\\n\\u202e\\x9b"
        with heap.attach(name) as m, failpoints.delay("mark.before", 5_000_000):
            while heap.stats().stalls < 2:
                m.new_array("u1", 3_000_000)
    """)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith("gcheap: mutator '?[2J???' stalled") for line in lines)
    assert harmless(done.stderr)


# ---- tables and lines of the commands ----------------------------------------------------------

@pytest.fixture
def plain():
    stream = io.StringIO()
    return consoles.PlainConsole(file=stream, highlight=False, markup=False, emoji=False,
                                 width=300), stream


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_table_shows_what_it_is_given(plain, name):
    console, stream = plain
    table = tables.new_table()
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    console.print(name)
    shown = stream.getvalue()
    assert harmless(shown)
    if name not in ("one\ntwo", "a\rb", "tab\tbell\x07"):     # rich lays these out itself
        assert shown.count(text.printable(name)) >= 2       # in the table, whole


def test_a_colour_terminal_gets_our_colours_only():
    stream = io.StringIO()
    console = consoles.PlainConsole(file=stream, force_terminal=True, color_system="standard",
                                    width=300, markup=False, highlight=False)
    console.print(ALL, style="green")
    shown = stream.getvalue()
    assert shown.startswith("\x1b[32m") and shown.endswith("\x1b[0m\n")
    assert harmless(re.sub(r"\x1b\[(32|0)m", "", shown))


def test_the_commands_print_on_such_a_console():
    for console in (consoles.result_console(), consoles.result_console("-"),
                    consoles.progress_console()):
        assert isinstance(console, consoles.PlainConsole)


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", "\u202e", "\x9b"], ids=ascii)
def test_an_error_is_one_line_whatever_was_given(name, capsys, monkeypatch):
    for command in (["stress", name], ["doctor", name], [name], ["stress", "--live", name],
                    ["doctor", "--json", f"/nonexistent/{name}/x"],
                    ["bench", "uffd", "--plot", f"{name}.gif"]):
        try:
            status = cli.main(command)
        except SystemExit as stopped:
            status = stopped.code
        said = capsys.readouterr().err
        assert status == 2 and said.count("\n") == 1 and harmless(said), command
    monkeypatch.setenv("GCHEAP_" + name, "1")
    assert cli.main(["stress"]) == 2
    assert harmless(capsys.readouterr().err)


def test_json_is_ascii_and_reads_back(capsysbinary):
    document = {name: [name, {"deep": name}] for name in HOSTILE}
    dumped = output.dump_json(document)
    assert dumped.isascii() and harmless(dumped) and json.loads(dumped) == document
    sys.stdout.flush()


def test_a_terminal_without_our_letters_loses_letters_only():
    for command in ("doctor", "options"):
        done = run_python(f"import sys; from gcheap.cli import main; sys.exit(main([{command!r}]))",
                          env={"PYTHONIOENCODING": "ascii"})
        assert done.stderr == "" and done.stdout.isascii() and len(done.stdout) > 500


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_plot_takes_no_name_for_a_formula(tmp_path, ending):
    pytest.importorskip("matplotlib")
    document = summarized(made_up(), config())
    document["machine"] |= {"cpu_model": "".join(HOSTILE[:-1]), "kernel": "$x$ & <y>"}
    target = tmp_path / f"plot.{ending}"
    plots.draw_uffd(document, str(target))
    if ending == "svg":
        ElementTree.parse(target)


# ---- files -------------------------------------------------------------------------------------

def by_snapshot(path) -> None:
    with gcheap.Heap("1MiB") as heap:
        heap.snapshot(path)


WRITERS = {"snapshot": by_snapshot, "json": lambda path: output.emit_json({"a": 1}, path),
           "bytes": lambda path: output.write_whole(path, b"new")}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@pytest.fixture
def target(tmp_path) -> Path:
    """A file of its own in a folder of its own."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "out"
    path.write_text("old")
    return path


@pytest.fixture
def folder_for_all():
    """A folder into which other users may look; pytest's own are for their owner."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "folder"
        folder.mkdir()
        yield folder


def as_it_was(target: Path) -> None:
    assert target.read_text() == "old" and os.listdir(target.parent) == [target.name]


def test_a_new_file_has_the_mode_of_any_new_file(target, write):
    target.unlink()
    before = os.umask(0o027)
    try:
        write(str(target))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(target.parent) == ["out"]


def test_an_old_file_keeps_mode_and_owner(target, write):
    target.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(target, NOBODY, NOBODY)
    before = target.stat()
    write(str(target))
    after = target.stat()
    assert target.read_text() != "old"
    for name in ("st_mode", "st_uid", "st_gid"):
        assert getattr(after, name) == getattr(before, name)


def test_a_symbolic_link_is_followed(target, write):
    link, dangling = target.parent.parent / "link", target.parent.parent / "dangling"
    link.symlink_to("folder/out")
    dangling.symlink_to("folder/new")
    for path in (link, dangling):
        write(str(path))
        assert path.is_symlink() and path.stat().st_size > 0
    assert sorted(os.listdir(target.parent)) == ["new", "out"]
    assert target.read_text() != "old"


def test_a_path_may_be_bytes_or_a_path(target):
    for path in (os.fsencode(target), target, str(target)):
        by_snapshot(path)
        assert json.loads(target.read_bytes())["snapshot"]
    for path in (5, None, 1.5):
        with pytest.raises(TypeError):
            by_snapshot(path)


def test_a_pipe_and_a_device_are_written_to_never_replaced(target, write):
    """`os.replace` would put a file in the place of /dev/null."""
    fifo = target.parent / "fifo"
    os.mkfifo(fifo)
    read = []
    thread = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    thread.start()
    write(str(fifo))
    thread.join(PATIENCE)
    assert read[0] and stat.S_ISFIFO(fifo.stat().st_mode)
    device = target.parent / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        device.symlink_to("/dev/null")
    write(str(device))
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize("path", ["/dev/stdout", "/proc/self/fd/1"])
def test_standard_output_by_name(path, tmp_path):
    script = f"import gcheap; gcheap.Heap('1MiB').snapshot({path!r})"
    assert json.loads(run_cleanly(script))["snapshot"]
    with open(tmp_path / "out", "w") as out:
        done = subprocess.run([sys.executable, "-c", script], stdout=out, check=False,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert json.loads((tmp_path / "out").read_text())["snapshot"]


def test_what_fails_in_the_middle_leaves_the_old_file(target):
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), files.whole_file(target) as stream:
            stream.write(b"new")
            stream.flush()
            assert target.read_text() == "old"
            raise error
        as_it_was(target)


@pytest.mark.parametrize(("place", "number"), [
    (".", errno.EISDIR), ("folder", errno.EISDIR), ("none/out", errno.ENOENT),
    ("folder/out/x", errno.ENOENT), ("x" * 256, errno.ENAMETOOLONG)])
def test_a_path_that_cannot_be(target, write, place, number):
    with pytest.raises(OSError) as caught:                     # noqa: PT011
        write(str(target.parent.parent / place))
    error = caught.value
    while error.errno is None:                              # an OutputError says it in words
        error = error.__cause__
    assert error.errno in (number, errno.ENOTDIR)
    as_it_was(target)
    assert os.listdir(target.parent.parent) == ["folder"]


def test_the_longest_name_there_can_be(target, write):
    path = target.parent / ("x" * 255)
    write(str(path))
    write(str(path))
    assert sorted(os.listdir(target.parent)) == ["out", path.name]


@AS_ROOT
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_written_is_not_replaced(folder_for_all, write, what):
    """A new file would take the place of one that is read-only, were it not asked."""
    target = folder_for_all / "out"
    target.write_text("old")
    os.chown(target, NOBODY, NOBODY)
    target.chmod(0o444 if what == "file" else 0o666)
    target.parent.chmod(0o777 if what == "file" else 0o555)

    def child():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with pytest.raises(OSError) as caught:                  # noqa: PT011
            write(str(target))
        told = str(caught.value)
        assert "ermission" in told and str(target.parent) in told
        with pytest.raises(output.OutputError):
            output.check_target(str(target))

    Child(child).join()
    as_it_was(target)


@pytest.mark.parametrize("path", ["/proc/out", b"/proc/out", "/sys/out"])
def test_a_directory_that_takes_no_files_is_found_out_before_a_run(path):
    """Whatever its permissions say; root may write anywhere."""
    with pytest.raises(output.OutputError, match="no permission to write /(proc|sys)$"):
        output.check_target(path)


def test_a_check_leaves_nothing_behind(target):
    for checked in (target, target.parent / "new"):
        output.check_target(str(checked))
    as_it_was(target)


def test_a_file_that_grows_too_large(target):
    """As on a full disk, for everybody: RLIMIT_FSIZE."""
    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for write in (by_snapshot, lambda path: output.write_whole(path, b"x" * 5000)):
            with pytest.raises(OSError, match="File too large"):
                write(str(target))
            as_it_was(target)

    Child(child).join()


@AS_ROOT
def test_a_full_disk(tmp_path, write):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr.strip()}")
    try:
        target = small / "out"
        target.write_text("old")
        with pytest.raises(OSError) as caught:                  # noqa: PT011
            (small / "filler").write_bytes(b"x" * 65536)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            write(str(target))
        assert target.read_text() == "old" and sorted(os.listdir(small)) == ["filler", "out"]
        (small / "filler").unlink()
        write(str(target))
        assert os.listdir(small) == ["out"] and target.read_text() != "old"
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("writer", ["snapshot", "json"])
def test_a_process_that_is_killed_leaves_the_old_file(target, writer):
    """Killed when everything is written, and nothing renamed."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"""
import os, sys, time
import gcheap
from gcheap.tools import output
def replace(source, destination):
    print(os.path.getsize(source), flush=True)
    time.sleep(600)
os.replace = replace
if {writer!r} == "json":
    output.emit_json(list(range(1000)), sys.argv[1])
else:
    gcheap.Heap("1MiB").snapshot(sys.argv[1])
""", str(target)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        assert int(process.stdout.readline()) > 500
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        process.stdout.close()
    assert target.read_text() == "old"
    left = [name for name in os.listdir(target.parent) if name != "out"]
    assert len(left) == 1 and left[0].startswith(".gcheap-") and left[0].endswith(".partial")
    WRITERS[writer](str(target))                            # what was left blocks nothing
    assert target.read_text() != "old"


def test_several_at_once_write_one_of_their_files(target):
    contents = [bytes([65 + i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=output.write_whole, args=(str(target), content))
               for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert target.read_bytes() in contents and os.listdir(target.parent) == ["out"]
