"""gcheap.h, as a program and an extension module of somebody else's use it."""
import importlib.util
import re
import shutil
import struct
import subprocess
import sys

import pytest
from embedding_support import (
    COMPILER,
    EXAMPLES,
    HERE,
    MISSING,
    WARNINGS,
    build_module,
    build_program,
    compiled,
    config,
    environment,
    run,
)

import gcheap

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

BOX = 0xFFFC000000000000


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """built(source): the program of that file, compiled once."""
    made = {}

    def build(source):
        if source not in made:
            made[source] = build_program(source, tmp_path_factory.mktemp("c") / source.stem)
        return made[source]
    return build


@pytest.fixture(scope="session")
def extension(tmp_path_factory):
    """The module of extension.c."""
    path = build_module(HERE / "extension.c", tmp_path_factory.mktemp("extension"))
    spec = importlib.util.spec_from_file_location("extension", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options_text(combination, **more):
    return " ".join(f"{name}={value}" for name, value in (combination | more).items())


# ---- the header --------------------------------------------------------------------------

@pytest.mark.parametrize("language", [("c", "c11"), ("c", "c17"), ("c++", "c++17")], ids="-".join)
def test_the_header_is_plain_c(tmp_path, language):
    name, standard = language
    source = tmp_path / "use.c"
    source.write_text('#include "gcheap.h"\nint main(void) { return gc_api != 0; }\n')
    if name == "c++" and shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    compiler = COMPILER if name == "c" else [shutil.which("c++")]
    compiled([*compiler, "-x", name, f"-std={standard}", "-pedantic", "-Wconversion", *WARNINGS,
              "-I", gcheap.get_include(), source, "-o", tmp_path / "use"])
    assert run([tmp_path / "use"]) == ""


def test_two_files_of_one_program_share_the_table(tmp_path):
    (tmp_path / "one.c").write_text(
        '#include "gcheap.h"\nextern const void *other(void);\n'
        'int main(void) { return other() != (const void *)&gc_api; }\n')
    (tmp_path / "two.c").write_text(
        '#include "gcheap.h"\nconst void *other(void);\n'
        'const void *other(void) { return &gc_api; }\n')
    compiled([*COMPILER, "-std=c11", *WARNINGS, "-I", gcheap.get_include(), tmp_path / "one.c",
              tmp_path / "two.c", "-o", tmp_path / "both"])
    run([tmp_path / "both"])


# ---- programs ----------------------------------------------------------------------------

def test_every_function_does_what_the_header_says(built, combination):
    program = built(HERE / "every_function.c")
    text = options_text(combination, capacity="16MiB", verify=2)
    assert run([program, sys.executable, text], env=environment()) == "done\n"


def test_who_waits_for_several_pauses_at_once_stops_and_restarts_once(built):
    """A mutator that wakes late finds the next pause on: its events still come in pairs."""
    late = environment() | {"GCHEAP_FAILPOINTS": "mutator.resumed=delay(20ms)"}
    text = "backend=move capacity=16MiB verify=3"
    assert run([built(HERE / "every_function.c"), sys.executable, text], env=late) == "done\n"


@pytest.mark.parametrize("more", [{}, {"collect_every": 2000}], ids=["as it comes", "stressed"])
def test_nan_boxed_values_are_marked_moved_and_kept(built, combination, more):
    program = built(HERE / "nan_boxing.c")
    text = options_text(combination, capacity="16MiB", verify=3, relocate="always", **more)
    assert run([program, sys.executable, text], env=environment()) == "done\n"


@pytest.mark.parametrize("more", [{}, {"collect_every": 500}], ids=["as it comes", "stressed"])
def test_threads_publish_lists_to_each_other(built, combination, more):
    text = options_text(combination, capacity="16MiB", verify=3, **more)
    program = built(HERE / "publishing.c")
    assert run([program, sys.executable, text], env=environment()) == "done\n"


def test_the_example_runs_and_checks_itself(built):
    said = run([built(EXAMPLES / "c_vm/scheme.c"), sys.executable], env=environment())
    assert said.count("60 sums are right") == 2 and "0 bytes live" in said


def test_the_example_under_stress(built):
    said = run([built(EXAMPLES / "c_vm/scheme.c"), sys.executable,
                "capacity=8MiB verify=2 collect_every=20000"], env=environment())
    assert said.count("60 sums are right") == 2


def test_a_program_without_gcheap_says_why(built, tmp_path):
    """An interpreter that does not find the package, and one that does not find itself."""
    (tmp_path / "gcheap.py").write_text("raise ImportError('no gcheap here')\n")
    program = built(EXAMPLES / "c_vm/scheme.c")
    for variable, says in (("PYTHONPATH", "ImportError: no gcheap here"),
                           ("PYTHONHOME", "gcheap: Python does not start")):
        done = subprocess.run([program, sys.executable], capture_output=True, text=True,
                              env=environment() | {variable: str(tmp_path)})
        assert done.returncode == 1 and says in done.stderr


def test_a_python_without_gcheap_is_named_with_the_cure(built, tmp_path):
    """As when the environment is not activated: the first python3 of PATH has no gcheap."""
    bare = tmp_path / "bare"
    run([sys.executable, "-m", "venv", "--without-pip", bare])
    done = subprocess.run([built(EXAMPLES / "c_vm/scheme.c")], capture_output=True, text=True,
                          env=environment() | {"PYTHONPATH": "", "PATH": f"{bare / 'bin'}"})
    assert done.returncode == 1
    assert "No module named 'gcheap'" in done.stderr
    assert f"started is {bare / 'bin/python3'} (of {bare}), and it cannot import" in done.stderr
    assert "Activate the environment" in done.stderr and "gc_start()" in done.stderr


# ---- extension modules -------------------------------------------------------------------

def test_c_and_python_share_a_heap(extension, any_heap):
    with any_heap.attach("sharing"):
        def look():
            any_heap.collect()
            by_shape = {row["shape"]: int(row["objects"]) for row in any_heap.census()}
            last = next(ref for ref in any_heap.walk() if ref.shape.name == "cell"
                        and ref.value.word == 8 * 99 + 1)
            alone = next(ref for ref in any_heap.walk() if ref.shape.name == "cell"
                         and ref.value.word == 8 * 1234 + 1)
            return by_shape, any_heap.why_alive(last), any_heap.why_alive(alone), last, alone
        by_shape, path, held, last, alone = extension.shadowed(any_heap, 100, look)
        assert by_shape == {"cell": 101}
        assert str(path[0]) == "word 0 of the shadow stack of 'sharing'"
        assert str(held[0]) == "word 3 of the root area of 'sharing'" and len(held) == 2
        assert last.next.value.word == 8 * 98 + 1
        del path, held, last, alone
        any_heap.collect()
        assert len(any_heap.census()) == 0


def test_root_areas_are_named_in_snapshots(extension, any_heap, tmp_path):
    with any_heap.attach("sharing"):
        extension.shadowed(any_heap, 3, lambda: any_heap.snapshot(tmp_path / "x.heapsnapshot"))
    assert re.search(r"\(root areas of sharing, thread \d+\)",
                     (tmp_path / "x.heapsnapshot").read_text())


def test_python_reads_and_writes_nan_boxed_heaps(extension, tmp_path):
    """A heap of C's with a rule of its own: shapes of Python follow it."""
    with extension.boxed_heap("capacity=4MiB verify=4") as heap, heap.attach() as m:
        cons = heap.shape("cons", refs=("value", "next"))
        assert cons.tag == (BOX, BOX)
        half, = struct.unpack("Q", struct.pack("d", 0.5))
        cells = m.new_slots(2000)
        table = heap.weak_key_table()
        for i in range(len(cells)):
            m.new(cons)
            cells[i] = m.new(cons, value=gcheap.Tagged(half + i), next=cells[i - 1] if i else None)
        table[cells[7]] = cells[8]
        table[cells[8]] = gcheap.Tagged(half)
        weak = m.weak(cells[9])
        heap.collect()
        for i in range(len(cells)):
            assert cells[i].value == gcheap.Tagged(half + i)
            assert cells[i].next == (cells[i - 1] if i else None)
        assert table[cells[7]] == cells[8] and table[cells[8]] == gcheap.Tagged(half)
        assert weak() == cells[9]
        with pytest.raises(ValueError, match="would be a reference under the tag rule"):
            cells[0].value = gcheap.Tagged(BOX | 8)
        with pytest.raises(ValueError, match="would be a reference under the tag rule"):
            cells[0] = gcheap.Tagged(BOX | 8)
        cells[0].value = gcheap.Tagged(8)           # under the usual rule an address
        heap.collect()
        assert cells[0].value == gcheap.Tagged(8)
        heap.snapshot(tmp_path / "x.heapsnapshot")
        assert {row["shape"] for row in heap.census()} == {"cons", "slots"}


def test_a_heap_of_python_can_be_closed_by_c(extension):
    heap = gcheap.Heap("4MiB")
    extension.close(heap)
    assert heap.closed
    with pytest.raises(gcheap.HeapClosed):
        extension.close(heap)
    with pytest.raises(TypeError, match=r"expected a gcheap\.Heap, got 5"):
        extension.close(5)


def test_a_thread_without_a_mutator_is_told(extension, any_heap):
    with pytest.raises(RuntimeError):
        extension.shadowed(any_heap, 1, lambda: None)


def test_another_abi_is_refused(tmp_path):
    """A module that was built with another gcheap.h says so when it is imported."""
    headers = tmp_path / "other"
    shutil.copytree(gcheap.get_include(), headers)
    text = (headers / "gcheap.h").read_text()
    (headers / "gcheap.h").write_text(re.sub(r"(#define GC_ABI) \d+", r"\1 999", text))
    build_module(HERE / "extension.c", tmp_path, "-I", str(headers))
    done = subprocess.run([sys.executable, "-c", "import extension"], cwd=tmp_path,
                          env=environment(), capture_output=True, text=True)
    assert re.search(r"ImportError: this module was built with a gcheap\.h of ABI 999 .* the "
                     r"installed gcheap has ABI \d+ .* build it again", done.stderr), done.stderr


def test_config_names_what_exists(tmp_path):
    assert config(cwd=tmp_path) == [gcheap.get_include()]
    assert config("--cflags", cwd=tmp_path)[0] == f"-I{gcheap.get_include()}"
    assert any(word.startswith("-lpython3") for word in config("--libs", cwd=tmp_path))


def test_the_flags_can_be_asked_for_without_a_command(tmp_path):
    def said(*words):
        return run([sys.executable, "-m", "gcheap", *words], cwd=tmp_path, env=environment())

    for options in (["--cflags", "--libs"], ["--libs"], ["--include"]):
        assert said(*options) == said("config", *options) != ""
    done = subprocess.run([sys.executable, "-m", "gcheap", "--cflags", "stress"], text=True,
                          capture_output=True, env=environment())
    assert done.returncode == 2 and "stress" in done.stderr
