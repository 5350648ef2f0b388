"""Bad input: one clear exception that names the value and what is accepted; nothing leaks."""
from __future__ import annotations

import subprocess

import pytest
from support import descriptors, mappings, node_shape, run_cleanly, run_python

import gcheap
from gcheap.options import OPTIONS, format_size, parse_size

# ---- sizes -------------------------------------------------------------------------------

GOOD_SIZES = {
    1: 1, 65536: 65536, "65536": 65536, "1KiB": 1 << 10, "64MiB": 64 << 20, "2GiB": 2 << 30,
    "1TiB": 1 << 40, "64 MiB": 64 << 20, "64mib": 64 << 20,
}
BAD_SIZES = [0, -1, "0", "-1", "-64MiB", "12XB", "", " ", "MiB", "1.5.2MiB", "0x10", "1e6x",
             "64MiB extra", "nan", "inf", "infMiB"]
NOT_SIZES = [1.5, [1], b"64MiB", object(), True]


@pytest.mark.parametrize(("given", "wanted"), GOOD_SIZES.items(), ids=repr)
def test_sizes(given, wanted):
    assert parse_size(given) == wanted


@pytest.mark.parametrize("nbytes", [1, 1000, 1 << 10, 1536, 64 << 20, 3 << 30, 1 << 40])
def test_a_size_reads_back_as_it_was_written(nbytes):
    text = format_size(nbytes)
    assert abs(parse_size(text) - nbytes) <= nbytes // 100


@pytest.mark.parametrize("bad", BAD_SIZES, ids=repr)
def test_a_bad_size_is_named_with_what_is_accepted(bad):
    for use in (lambda: parse_size(bad), lambda: gcheap.Heap(bad)):
        with pytest.raises(gcheap.OptionError) as caught:
            use()
        assert repr(bad) in str(caught.value) or str(bad) in str(caught.value)
        assert "MiB" in str(caught.value)                   # an example of what is accepted


@pytest.mark.parametrize("bad", NOT_SIZES, ids=lambda bad: repr(bad).partition(" at 0x")[0])
def test_something_that_is_no_size(bad):
    with pytest.raises((gcheap.OptionError, TypeError)) as caught:
        gcheap.Heap(bad)
    assert repr(bad) in str(caught.value) or type(bad).__name__ in str(caught.value)


@pytest.mark.parametrize("absurd", [1, 100, "1KiB", 2**47, 2**63, 2**64, 2**100, "100000TiB"],
                         ids=repr)
def test_an_absurd_capacity_is_refused(absurd):
    """Too small for a single unit, or beyond any address space."""
    # In a process of its own, where nobody else maps or unmaps anything.
    run_cleanly(f"""
        import gcheap
        from support import descriptors, mappings
        def refused():
            try:
                gcheap.Heap({absurd!r})
            except gcheap.GcheapError as e:
                assert "capacity" in str(e), e
            else:
                raise SystemExit("it was made")
        refused()                                           # what is imported late has been
        before = descriptors(), mappings()
        refused()
        assert (descriptors(), mappings()) == before, (before, descriptors(), mappings())
    """)


@pytest.mark.uninstrumented("it reserves terabytes of address space for itself")
def test_a_capacity_beyond_the_address_space_limit():
    out = run_cleanly("""
        import os, resource
        import gcheap
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        descriptors = os.listdir("/proc/self/fd")
        for _ in range(20):
            try:
                gcheap.Heap("8GiB")
            except gcheap.GcheapError as e:
                message = str(e)
            else:
                raise SystemExit("8 GiB in an address space of 3")
        assert os.listdir("/proc/self/fd") == descriptors
        print(message)
        with gcheap.Heap("64MiB") as heap, heap.attach() as m:
            assert len(m.new_slots(1000)) == 1000
    """)
    assert "8" in out and ("RLIMIT_AS" in out or "ulimit" in out), out


# ---- options -----------------------------------------------------------------------------

BAD_OPTIONS = {
    "backend": ["mvoe", "", "MOVE ", 3],
    "faults": ["signal", "", 0],
    "unit_pages": [0, -1, 3, 12, 2**20, "many", 1.5, True],
    "verify": [-1, 5, 7, "all", 1.5],
    "relocate": ["", "never", 1],
    "collect_every": [-1, 2**33, "often", 1.5, True],
    "delay_placements_us": [-1, 10**7, "long", 0.5],
    "batch_units": [-1, 2**40, "x", 1.5],
    "mark_threads": [0, -1, 65, "many", 1.5, True],
}


@pytest.mark.parametrize(("option", "value"),
                         [(o, v) for o, values in BAD_OPTIONS.items() for v in values], ids=repr)
def test_a_bad_option_is_named_with_what_is_accepted(option, value):
    def refuse():
        with pytest.raises(gcheap.OptionError) as caught:
            gcheap.Heap("1MiB", **{option: value})
        message = str(caught.value)
        assert option in message and repr(value) in message, message

    def mapped() -> int:
        """Mappings that a refusal leaves."""
        before = mappings()
        refuse()
        return mappings() - before

    refuse()                                                # what is made once stays
    before = descriptors()
    # A leak is there each time; the C library's own memory grows once in a while.
    assert any(mapped() == 0 for _ in range(3))
    assert descriptors() == before


def test_none_is_an_option_that_was_not_given():
    options = dict.fromkeys(option.name for option in OPTIONS)
    with gcheap.Heap(**options) as given, gcheap.Heap() as default:
        for name in ("capacity", "backend", "unit_pages", "verify"):
            assert getattr(given, name) == getattr(default, name)


def test_an_unknown_option_is_named():
    with pytest.raises((TypeError, gcheap.OptionError), match="bakend"):
        gcheap.Heap("1MiB", bakend="move")
    with pytest.raises(TypeError):
        gcheap.Heap("1MiB", "move")                         # options are by keyword


def test_a_fault_mode_is_accepted_and_unused_under_stw():
    with gcheap.Heap("1MiB", backend="stw", faults="sigbus") as heap:
        heap.collect()
        assert heap.stats().faults == 0


WITH_ENVIRONMENT = [option for option in OPTIONS if option.env]


def test_options_have_environment_variables():
    assert {option.env for option in WITH_ENVIRONMENT} >= {
        "GCHEAP_CAPACITY", "GCHEAP_BACKEND", "GCHEAP_UNIT_PAGES", "GCHEAP_VERIFY"}


MAKE_A_HEAP = """
    import gcheap
    try:
        heap = gcheap.Heap()
    except gcheap.OptionError as e:
        print("refused:", e)
    else:
        print(heap.capacity, heap.backend, heap.unit_pages, heap.verify)
"""


@pytest.mark.parametrize("option", WITH_ENVIRONMENT, ids=lambda o: o.env)
def test_a_bad_environment_value_is_named_with_its_variable(option):
    out = run_cleanly(MAKE_A_HEAP, env={option.env: "no-such-value"})
    assert out.startswith("refused:") and option.env in out and "no-such-value" in out, out


def test_an_unknown_environment_variable_is_named():
    out = run_cleanly(MAKE_A_HEAP, env={"GCHEAP_BAKEND": "stw"})
    assert out.startswith("refused:") and "GCHEAP_BAKEND" in out
    assert "GCHEAP_BACKEND" in out                          # what is accepted


def test_environment_values_are_used_and_arguments_win():
    env = {"GCHEAP_BACKEND": "stw", "GCHEAP_CAPACITY": "3MiB", "GCHEAP_UNIT_PAGES": "4",
           "GCHEAP_VERIFY": "3"}
    assert run_cleanly(MAKE_A_HEAP, env=env) == f"{3 << 20} stw 4 3\n"
    explicit = MAKE_A_HEAP.replace("Heap()", 'Heap("1MiB", unit_pages=2)')
    assert run_cleanly(explicit, env=env) == f"{1 << 20} stw 2 3\n"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_every_option_is_described(option):
    assert option.help and option.name.isidentifier()


# ---- the rest of the face ----------------------------------------------------------------

def test_unknown_names_of_histograms(any_heap):
    with pytest.raises((ValueError, KeyError), match="faluts"):
        any_heap.histogram("faluts")
    for name in ("fault", "time_to_safepoint"):
        values, counts, largest = any_heap.histogram(name)
        assert len(values) == len(counts)


def test_a_mutator_cannot_be_made_by_hand():
    for kind in (gcheap.Mutator, gcheap.Ref, gcheap.Shape):
        with pytest.raises(TypeError):
            kind()


def test_the_name_of_a_mutator(any_heap):
    with pytest.raises(TypeError):
        any_heap.attach(7)
    with any_heap.attach("a name that is far longer than the thirty-one bytes there are") as m:
        assert m.new_slots(1)[0] is None


def test_exceptions_are_what_the_standard_library_expects():
    families = {
        gcheap.HeapExhausted: MemoryError, gcheap.HeapClosed: ValueError,
        gcheap.NotAttached: RuntimeError, gcheap.ShapeError: ValueError,
        gcheap.OptionError: ValueError, gcheap.ForeignRef: ValueError,
    }
    for ours, standard in families.items():
        assert issubclass(ours, gcheap.GcheapError) and issubclass(ours, standard)


def test_the_heap_goes_on_after_every_kind_of_mistake(make_heap):
    heap = make_heap("1MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        ref = m.new(node, key=1)
        mistakes = [
            lambda: m.new(node, nope=1), lambda: m.new(node, key="x"), lambda: m.new("Node"),
            lambda: m.new(None), lambda: m.new(), lambda: setattr(ref, "next", 5),
            lambda: m.new_slots(-1), lambda: m.new_array("nonsense", 1),
            lambda: heap.shape("Node", refs=("x",)), lambda: heap.attach(),
            lambda: m.new_array("u1", 2**50)]
        for _ in range(50):
            for mistake in mistakes:
                with pytest.raises(Exception):              # noqa: B017, PT011
                    mistake()
        heap.collect()
        assert heap.stats().handles == 1                    # failed calls left no root behind
        assert ref.key == 1


# ---- leaks -------------------------------------------------------------------------------

@pytest.mark.uninstrumented("it maps memory of its own")
def test_closing_returns_descriptors_and_mappings(combination):
    def use_a_heap():
        with gcheap.Heap("4MiB", **combination) as heap, heap.attach() as m:
            refs = [m.new(node_shape(heap), key=i) for i in range(100)]
            heap.collect()
            assert refs[99].key == 99

    use_a_heap()                                            # what is made once stays
    before = descriptors(), mappings()
    for _ in range(30):
        use_a_heap()
    assert descriptors() == before[0]
    assert mappings() <= before[1] + 3                      # the allocator's own business


@pytest.mark.uninstrumented("it maps memory of its own")
def test_dropping_a_heap_without_closing_it_returns_everything(combination):
    def drop_a_heap():
        heap = gcheap.Heap("4MiB", **combination)
        heap.collect()

    drop_a_heap()
    before = descriptors(), mappings()
    for _ in range(30):
        drop_a_heap()
    assert descriptors() == before[0]
    assert mappings() <= before[1] + 3


def test_collections_make_no_mappings(make_heap):
    heap = make_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        def cycle():
            kept = [(m.new(node), m.new(node, key=i))[1] for i in range(2000)]
            heap.collect()
            assert kept[1999].key == 1999
        for _ in range(4):
            cycle()
        before = mappings()
        for _ in range(40):
            cycle()
        assert mappings() <= before + 2


def test_no_descriptor_is_inherited_by_other_programs(any_heap):
    listed = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True,
                            close_fds=False, check=True).stdout
    assert "userfaultfd" not in listed


def test_too_many_open_files():
    done = run_python("""
        import os, resource
        import gcheap
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        opened = []
        try:
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            gcheap.Heap("1MiB", backend="copy")
        except gcheap.GcheapError as e:
            print("refused:", e)
        for fd in opened:
            os.close(fd)
        gcheap.Heap("1MiB").close()
    """)
    assert done.returncode == 0 and done.stdout.startswith("refused:"), done
    assert "EMFILE" in done.stdout or "open files" in done.stdout
