"""GCHEAP_FAILPOINTS: a small grammar, parsed strictly."""
from __future__ import annotations

import errno

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import run_python

import gcheap
from gcheap import failpoints
from gcheap.failpoint_settings import arm_environment, armed, parse
from gcheap.failpoint_table import POINTS

PAUSE, DELAY, ERRNO, SHORT = 1, 2, 3, 4
ALWAYS = 0xFFFFFFFF
UNITS = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9}
ERRNOS = [name for number, name in errno.errorcode.items()
          if number <= failpoints.MOST_ERRNO and getattr(errno, name) == number]


@st.composite
def settings(draw):
    """(text, what it means): of one point."""
    point = draw(st.sampled_from(POINTS))
    action = draw(st.sampled_from(point.actions))
    low = span = seed = 0
    keys = []
    if action == "pause":
        text, number = "pause", PAUSE
    elif action == "delay":
        def moment():
            unit = draw(st.sampled_from(list(UNITS)))
            count = draw(st.integers(0, 3600 * 10**9 // UNITS[unit]))
            return f"{count}{unit}", count * UNITS[unit]
        text, number = "", DELAY
        one, low = moment()
        if draw(st.booleans()):
            two, high = moment()
            if high < low:
                (one, low), (two, high) = (two, high), (one, low)
            text, span = f"delay({one}..{two})", high - low
            if draw(st.booleans()):
                seed = draw(st.integers(0, 2**64 - 1))
                keys.append(f"seed={seed}")
        else:
            text = f"delay({one})"
    elif action == "errno":
        name = draw(st.sampled_from(ERRNOS))
        text, number, low = f"errno({name})", ERRNO, getattr(errno, name)
    else:
        low = draw(st.integers(1, 2**32))
        text, number = f"short({low})", SHORT
    times = draw(st.none() | st.integers(1, ALWAYS - 1))
    after = draw(st.integers(1, 2**63))
    if after > 1 or draw(st.booleans()):
        keys.append(f"after={after}")
    keys = draw(st.permutations(keys))
    text = (f"{point.name}={text}" + ("" if times is None else f"*{times}")
            + ("@" + ",".join(keys) if keys else ""))
    return text, (point.name, (number, low, span, seed, ALWAYS if times is None else times,
                               after - 1))


def meaning(found):
    return [(point.name, point._arguments) for point in found]


@given(st.lists(settings(), min_size=1, max_size=6, unique_by=lambda one: one[1][0]),
       st.sampled_from([";", " ; ", ";\n"]))
def test_settings_mean_what_they_say(several, separator):
    text = separator.join(one for one, _ in several)
    assert meaning(parse(text)) == [what for _, what in several]


@given(st.text(max_size=60) | st.text("placemove.=errno(EBUSY)*3@after,;0123 ", max_size=60))
@example("place.move=errno(EBUSY)*3;")
def test_any_other_text_is_one_clear_error_or_means_something(text):
    try:
        parse(text, "GCHEAP_FAILPOINTS")
    except gcheap.OptionError as error:
        assert str(error).startswith("GCHEAP_FAILPOINTS=") and "\n" not in str(error)


def test_the_example_of_the_documentation():
    text = "place.move=errno(EBUSY)*3;flip.after=delay(2ms);mutator.claimed=delay(0..500us)@seed=7"
    assert meaning(parse(text)) == [
        ("place.move", (ERRNO, errno.EBUSY, 0, 0, 3, 0)),
        ("flip.after", (DELAY, 2_000_000, 0, 0, ALWAYS, 0)),
        ("mutator.claimed", (DELAY, 0, 500_000, 7, ALWAYS, 0))]
    assert parse("") == parse("  ") == []
    schedule, = parse("explore=delay(0..1.5ms)@seed=9,share=0.25")
    assert (schedule.seed, schedule.ns, schedule.share) == (9, 1_500_000, 0.25)


BAD = {
    "nonsense": "expected POINT=ACTION",
    "flip.aftr=pause": "unknown failpoint 'flip.aftr'",
    "flip.after=stop": "unknown action 'stop'",
    "flip.after=stop(1)": "unknown action 'stop'",
    "flip.after=errno(EBUSY)": "takes pause, delay, not errno",
    "uffd.register=short(1)": "takes pause, delay, errno, not short",
    "place.move=errno(EBUSY)*0": "times=0",
    "place.move=errno(EBUSY)*9999999999": "times=9999999999",
    "place.move=errno(ENONSENSE)": "expected a name such as EBUSY",
    "place.move=errno(errorcode)": "expected a name such as EBUSY",
    "place.move=errno(16)": "expected a name such as EBUSY",
    "place.move=errno()": "expected a name such as EBUSY",
    "place.move=errno": "expected POINT=ACTION",
    "flip.after=pause(1ms)": "expected POINT=ACTION",
    "flip.after=delay(2)": "'2' is no time",
    "flip.after=delay(0.0005us)": "no time",
    "flip.after=delay(2h)": "'2h' is no time",
    "flip.after=delay(3601s)": "ns=3601000000000",
    "flip.after=delay(2ms..1ms)": "most_ns=1000000",
    "flip.after=delay(1ms)@seed=3": "'seed=3' after @: expected after",
    "flip.after=pause@": "'' after @",
    "flip.after=pause@after=0": "after=0",
    "flip.after=pause@after=1.5": "after=1.5",
    "flip.after=pause@after=1,after=2": "once each",
    "flip.after=pause@until=3": "'until=3' after @",
    "place.move=short(0)": "pages=0",
    "place.move=short(x)": "short(x): expected a number of pages",
    "flip.after=pause;": "''",
    "flip.after=pause;flip.after=pause": "flip.after is set twice",
    "flip.after = pause": "expected POINT=ACTION",
    "explore=pause": "explore takes delay(0..TIME)",
    "explore=delay(5us)": "explore takes delay(0..TIME)",
    "explore=delay(1us..5us)": "explore takes delay(0..TIME)",
    "explore=delay(0us..5us)@share=0": "share=0",
    "explore=delay(0us..5us)@share=2": "share=2",
    "explore=delay(0us..5us)*3": "no *",
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=BAD)
def test_bad_settings_are_refused_with_what_was_wrong(text, said):
    with pytest.raises(gcheap.OptionError) as caught:
        parse(text, "GCHEAP_FAILPOINTS")
    message = str(caught.value)
    assert message.startswith("GCHEAP_FAILPOINTS=") and said in message, message


def test_what_is_armed_in_a_block_is_free_after_it(any_heap):
    with armed("cycle.begin=delay(1ns)*2@after=2;flip.before=delay(0..1us)") as (point, other):
        for _ in range(4):
            any_heap.collect()
        assert (point.arrivals, point.hits, other.hits) == (4, 2, 4)
    with armed("cycle.begin=pause;flip.before=pause"):
        pass


IMPORT = """
    import os
    os.environ["GCHEAP_FAILPOINTS"] = sys.argv[1]
    from gcheap import failpoint_settings, failpoints
    failpoint_settings.arm_environment()
    with gcheap.Heap("1MiB", backend="stw") as heap:
        heap.collect()
    print(failpoints._native.hits(failpoints.NAMES.index("cycle.begin")))
"""


def test_the_environment_arms_and_no_heap_minds(zygote):
    assert zygote.run(IMPORT, "cycle.begin=delay(1us)") == (0, "1\n", "")


def test_an_exploration_of_the_environment_says_its_seed(zygote):
    ended = zygote.run(IMPORT, "explore=delay(0..1us)@share=1")
    assert ended.status == 0
    assert ended.err.startswith("gcheap: exploring schedules: GCHEAP_FAILPOINTS='explore=delay(")
    parse(ended.err.split("'")[1])


def test_a_build_without_failpoints_says_so(monkeypatch):
    monkeypatch.setattr(failpoints._native, "BUILT", False)
    for point in (failpoints.pause("flip.after"), failpoints.explore(1)):
        with pytest.raises(gcheap.GcheapError, match="GCHEAP_NO_FAILPOINTS=1"), point:
            pass
    arm_environment({})
    with pytest.raises(gcheap.OptionError, match="GCHEAP_FAILPOINTS is set, but this copy"):
        arm_environment({"GCHEAP_FAILPOINTS": "flip.after=pause"})


def test_what_one_setting_armed_is_free_when_another_is_bad():
    with failpoints.pause("cycle.stay"), pytest.raises(ValueError, match="armed already"), \
            armed("cycle.end=pause;cycle.stay=pause"):
        pass
    with armed("cycle.end=pause;cycle.stay=pause"):
        pass


def test_a_bad_value_ends_the_import_with_one_error():
    done = run_python("import gcheap", env={"GCHEAP_FAILPOINTS": "flip.aftr=pause"})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("gcheap.OptionError: GCHEAP_FAILPOINTS='flip.aftr=pause': unknown"
                           " failpoint 'flip.aftr'")
