"""Heaps for every backend and fault mode of this machine, and a seed that can be replayed."""
from __future__ import annotations

import gc
import random
import secrets
import signal
from contextlib import ExitStack, contextmanager

import hypothesis
import pytest
from hypothesis import HealthCheck
from support import COMBINATIONS, COUNT, interleaved, kernel_offers, node_shape
from zygote import Zygote

import gcheap
from gcheap.core._testing_sanitizer import sanitizer

pytest_plugins = ["black_box"]

CONCURRENT = [pair for pair in COMBINATIONS if pair[0] != "stw"]
_SEED = pytest.StashKey[int]()

hypothesis.settings.register_profile(
    "gcheap", deadline=None, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
hypothesis.settings.load_profile("gcheap")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None,
                     help="seed of everything random in these tests (default: a fresh one)")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts this in the background has it ignored, and Ctrl-C would do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = config.getoption("--seed")
    if seed is None:
        # Of pytest-xdist's workers, which get it from the process that started them.
        seed = getattr(config, "workerinput", {}).get("seed", secrets.randbits(32))
    config.stash[_SEED] = seed
    if config.getoption("--hypothesis-seed", None) is None:
        hypothesis.core.global_force_seed = config.stash[_SEED]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """All workers of pytest-xdist run with one seed."""
    node.workerinput["seed"] = node.config.stash[_SEED]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the mode `handler` where a test is marked sigbus_only; in a build with sanitizers
    skips what is marked uninstrumented."""
    for item in items if sanitizer() else []:
        mark = item.get_closest_marker("uninstrumented")
        if mark and mark.kwargs.get("only", sanitizer()) == sanitizer():
            item.add_marker(pytest.mark.skip(reason=f"{sanitizer()} sanitizer: {mark.args[0]}"))
    out = [item for item in items if item.get_closest_marker("sigbus_only") and has_server(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = set(out)
        items[:] = [item for item in items if item not in gone]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests are some million objects, which each `gc.collect()` in a test, and each
    child at its end, would go through."""
    gc.collect()
    gc.freeze()
    # Ungrouped, tests that change swap or KSM would run side by side, and nothing would say so.
    if getattr(session.config.option, "loadgroup", False) and any(
            item.get_closest_marker("xdist_group") and "@" not in item.nodeid
            for item in session.items):
        raise pytest.UsageError("this pytest-xdist cannot group tests with this pytest, and does "
                                "not say so: take pytest below 9.2")


def has_server(item: pytest.Item) -> bool:
    """Whether a test's combination has a thread that serves faults."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return any(parameters.get(name, ("", ""))[1] == "handler"
               for name in ("combination", "concurrent"))


def pytest_report_header(config: pytest.Config) -> str:
    return f"gcheap {gcheap.__version__}, seed {config.stash[_SEED]} (replay with --seed)"


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus:
        terminalreporter.write_line(f"replay with --seed {config.stash[_SEED]}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run; the same number gives the same test again."""
    return request.config.stash[_SEED]


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


def _options(pair: tuple[str, str]) -> dict[str, str]:
    """Heap options for a combination; skips the test when this machine lacks it.

    Whether it does is asked of the kernel, not of gcheap: a heap that refuses a backend that
    the kernel offers is a failure, not a skip.
    """
    backend, faults = pair
    reason = kernel_offers(backend)
    if reason is not None:
        pytest.skip(f"no backend {backend} here: {reason}")
    return {"backend": backend, "faults": faults}


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def combination(request: pytest.FixtureRequest) -> dict[str, str]:
    """Options of one backend and fault mode, each in turn."""
    return _options(request.param)


@pytest.fixture(params=CONCURRENT, ids="-".join)
def concurrent(request: pytest.FixtureRequest) -> dict[str, str]:
    """The same for backends that relocate while mutators run (not stw)."""
    return _options(request.param)


@pytest.fixture(params=["move", "copy"])
def by_handler(request: pytest.FixtureRequest) -> dict[str, str]:
    """The same for the fault mode `handler`, by backend."""
    return _options((request.param, "handler"))


@contextmanager
def _heaps(options: dict[str, str]):
    """Makes heaps of these options; closes them at the end."""
    with ExitStack() as stack:
        yield lambda capacity="16MiB", **more: stack.enter_context(
            gcheap.Heap(capacity, **(options | more)))


@pytest.fixture
def make_heap(combination):
    """Makes heaps of each combination; closes them at the end."""
    with _heaps(combination) as make:
        yield make


@pytest.fixture
def make_concurrent_heap(concurrent):
    with _heaps(concurrent) as make:
        yield make


@pytest.fixture
def make_served(by_handler):
    with _heaps(by_handler) as make:
        yield make


@pytest.fixture
def served(make_served):
    """A heap with a thread that serves its faults."""
    return make_served()


@pytest.fixture
def heap(make_heap):
    return make_heap()


@pytest.fixture
def mutator(heap):
    with heap.attach() as m:
        yield m


@pytest.fixture
def node(heap):
    """Shape Node: refs next, other; raw key, filler."""
    return node_shape(heap)


@pytest.fixture(scope="session")
def zygote():
    """Runs scripts in interpreters of their own, quickly."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def any_heap():
    """One heap of the best backend, for tests to which the backend makes no difference."""
    with gcheap.Heap("4MiB") as heap:
        yield heap


@pytest.fixture
def any_mutator(any_heap):
    with any_heap.attach() as m:
        yield m


@pytest.fixture
def checked_heap(make_heap):
    return make_heap(verify=3)


@pytest.fixture
def checked(make_concurrent_heap):
    """A heap that marks beside its mutators, with every graph verified."""
    return make_concurrent_heap(verify=3)


@pytest.fixture
def graph(checked_heap):
    """(heap, mutator, nodes): a graph whose heap is verified in each cycle."""
    with checked_heap.attach() as m:
        yield checked_heap, m, interleaved(m, node_shape(checked_heap), COUNT)
