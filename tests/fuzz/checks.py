"""Reports about a whole heap, compared with the model: cheap ones at every step, all at times."""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import gcheap
from fuzz.layouts import rounded
from fuzz.model import Thing
from fuzz.side import Side


def bounds(side: Side) -> tuple[set[Thing], set[Thing]]:
    """What a report must contain, and what it may contain besides."""
    reachable = side.model.reachable()
    return reachable, side.model.perhaps(reachable)


def census(side: Side) -> None:
    reachable, perhaps = bounds(side)
    found: Counter = Counter()
    for row in side.heap.census():
        found[str(row["shape"]), "objects"] += int(row["objects"])
        found[str(row["shape"]), "bytes"] += int(row["bytes"])
    least, most = side.tally(reachable), side.tally(reachable | perhaps)
    for key in found | most:
        assert least[key] <= found[key] <= most[key], (
            f"census of {key}: {found[key]}, ought to be {least[key]} to {most[key]}")


def walk(side: Side) -> None:
    """Every reachable object once."""
    reachable, perhaps = bounds(side)
    known = {thing.uid: thing for thing in reachable | perhaps if thing.fixed}
    arrays = {thing.hash: thing for thing in reachable | perhaps if not thing.fixed}
    seen: set[Thing] = set()
    strange = 0
    for ref in side.heap.walk():
        if ref.shape.name in side.shapes:
            thing = known[ref.uid]
        else:
            thing = arrays.get(hash(ref))
            if thing is None:               # never hashed before
                strange += 1
                continue
        assert thing not in seen, f"{thing} came twice in a walk"
        side.same_contents(ref, thing)
        seen.add(thing)
    unhashed = sum(thing.hash is None for thing in reachable if not thing.fixed)
    perhaps_unhashed = sum(thing.hash is None for thing in perhaps if not thing.fixed)
    assert unhashed <= strange <= unhashed + perhaps_unhashed, (unhashed, strange)
    missed = {t for t in reachable - seen if t.fixed or t.hash is not None}
    assert not missed, f"a walk left out {missed}"


def referrers(side: Side, pick: int) -> None:
    chosen = side.pick_root(pick)
    reachable, perhaps = bounds(side)
    if chosen is None or perhaps:
        return
    _, ref, thing = chosen
    wanted: Counter = Counter()
    for holder in reachable:
        for where, target in side.model.edges(holder):
            if target is thing:
                wanted[holder, where] += 1
    found: Counter = Counter()
    roots: Counter = Counter()
    holders = {holder for holder, _ in wanted}
    for holder, where in side.heap.referrers(ref):
        if isinstance(holder, gcheap.Root):
            roots[holder.kind] += 1
        elif holder.shape.name in side.shapes:
            found[side.recognise(holder, holders), where] += 1
        else:
            found[array_holder(side, holder, holders, where, thing), where] += 1
        del holder
    assert found == wanted, (thing, found, wanted)
    model = side.model
    kinds = Counter({
        "ref": sum(t is thing for t in model.roots.values()) - 1, "frozen": thing in model.frozen,
        "guardian": sum(r.agent is thing for r in model.registrations.values())})
    assert roots == +kinds, (thing, roots, kinds)


def array_holder(side: Side, ref: gcheap.Ref, holders: set[Thing], where: int,
                 thing: Thing) -> Thing:
    """An array is known by its hash; one that was never hashed, by what it holds where."""
    known = [t for t in holders if not t.fixed and t.hash == hash(ref)]
    if not known:
        known = [t for t in holders if not t.fixed and t.hash is None
                 and len(t.slots) == len(ref) and t.slots[where] is thing]
        assert known, f"an array of {len(ref)} that holds {thing} at {where} is not in the model"
        if len(known) == 1:
            known[0].hash = hash(ref)
    return known[0]


def retained(side: Side, pick: int) -> None:
    chosen = side.pick_root(pick)
    reachable, perhaps = bounds(side)
    if chosen is None or perhaps:
        return
    _, ref, thing = chosen
    lost = reachable - side.model.reach(side.model.strong(), without=thing)
    found = side.heap.retained(ref)
    assert (found.objects, found.bytes, found.own_bytes) == (
        len(lost), sum(t.nbytes for t in lost), thing.nbytes), (thing, found, lost)


def why_alive(side: Side, pick: int) -> None:
    chosen = side.pick_root(pick)
    _, perhaps = bounds(side)
    if chosen is None or perhaps:
        return
    name, ref, thing = chosen
    model = side.model
    starts = [t for n, t in model.roots.items() if n != name]
    starts += [*model.frozen, *(r.agent for r in model.registrations.values()
                                if r.agent is not None)]
    distance = model.distances(starts).get(thing)
    path = side.heap.why_alive(ref)
    if distance is None:
        assert path is None, (thing, path)
        return
    assert path is not None and len(path) == distance + 2, (thing, path, distance)
    assert isinstance(path[0], gcheap.Root)
    at = {t for t in starts if side.tally([t])[path[1].ref.shape.name, "objects"]}
    for step in path[2:]:
        at = {target for t in at for where, target in model.edges(t) if where == step.where}
        assert at, f"{path} is no path of the model's"
    assert thing in at, path
    side.is_thing(path[-1].ref, thing)


def snapshot(side: Side, folder: Path) -> None:
    reachable, perhaps = bounds(side)
    path = folder / "fuzz.heapsnapshot"
    side.heap.snapshot(str(path))
    document = json.loads(path.read_text())
    path.unlink()
    nodes, width = document["nodes"], 7
    objects = [nodes[i:i + width] for i in range(0, len(nodes), width) if nodes[i] == 3]
    nbytes = sum(node[3] for node in objects)
    edges = sum(node[4] for node in objects)
    most = reachable | perhaps
    assert len(reachable) <= len(objects) <= len(most), (len(objects), len(reachable))
    assert sum(t.nbytes for t in reachable) <= nbytes <= sum(t.nbytes for t in most)
    if not perhaps:
        assert edges == sum(1 for t in reachable for _ in side.model.edges(t))


def counters(side: Side) -> None:
    """Numbers that cost nothing, at every step."""
    heap, model = side.heap, side.model
    stats = heap.stats()
    assert stats.used_bytes <= stats.capacity_bytes
    if side.sole:
        assert heap.get_freeze_count() == len(model.frozen)
        assert stats.mutators == side.mutators
    reachable = model.reachable()
    for number, table in side.key_tables.items():
        entries = model.key_tables[number]
        assert sum(key in reachable for key in entries) <= len(table) <= len(entries)
    for number, weak in side.weak_refs.items():
        if weak.cleared:
            model.is_told(model.weak_refs[number], alive=False)
    for number in side.told:
        final = model.finals.get(number)
        assert final is None or final.thing not in reachable, (
            f"the finalizer of {final.thing} ran, and it is reachable")


def live_bytes(side: Side) -> None:
    """After a settled full collection with nobody else at work, of which nothing that a guardian
    gave was dropped: what it found is what there is."""
    stats, page = side.heap.stats(), side.heap.page_size
    wanted = side.model.charge(page)
    assert stats.live_bytes == wanted, f"{stats.live_bytes} live bytes, {wanted} in the model"
    pinned = sum(rounded(t.nbytes, page) for t in side.model.reachable() if t.pinned)
    assert stats.pinned_bytes == pinned, f"{stats.pinned_bytes} of pinned arrays, {pinned} live"
