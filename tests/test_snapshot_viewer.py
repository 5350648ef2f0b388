"""A heap snapshot in the viewer itself: the loader of Chrome's DevTools, out of a Chromium here.

The browser serves its own front end over the debugging port; the loader's modules are taken from
there and run by node, on a snapshot whose contents are known.
"""
from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import urllib.request

import pytest
from report_support import CHROMIUM
from support import PATIENCE, wait_until

import gcheap

LOADER = "entrypoints/heap_snapshot_worker/heap_snapshot_worker.js"
IMPORTED = re.compile(r'(?:from|import)\s*\(?"(\.[^"]+)"')
# The second thread that the loader hands work to is the same one here.
SCRIPT = """
import fs from "node:fs";
import {MessageChannel} from "node:worker_threads";
globalThis.self = globalThis;
Promise.withResolvers ??= () => {
    const made = {};
    made.promise = new Promise((resolve, reject) => Object.assign(made, {resolve, reject}));
    return made;
};
const worker = await import("./LOADER");
const {port1, port2} = new MessageChannel();
const second = new worker.HeapSnapshotWorkerDispatcher.HeapSnapshotWorkerDispatcher(() => {});
await second.dispatchMessage({
    data: {disposition: "setupForSecondaryInit", objectId: 1, callId: 1}, ports: [port2]});
const loader = new worker.HeapSnapshotLoader.HeapSnapshotLoader({sendEvent() {}});
loader.write(fs.readFileSync(process.argv[2], "utf8"));
loader.close();
const snapshot = await loader.buildSnapshot(port1);
const classes = {};
for (const found of Object.values(snapshot.getAggregatesByClassKey(false)))
    classes[found.name] = [found.count, found.self];
console.log(JSON.stringify({nodes: snapshot.nodeCount, bytes: snapshot.totalSize, classes}));
process.exit(0);
""".replace("LOADER", LOADER)


@pytest.fixture
def front_end(tmp_path):
    """A folder with the loader's modules."""
    if CHROMIUM is None or shutil.which("node") is None:
        pytest.skip("needs Chromium and node")
    profile, port = tmp_path / "profile", tmp_path / "profile" / "DevToolsActivePort"
    browser = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: port.exists() and port.read_text().strip(), "the debugging port")
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/devtools/"
        wanted, folder = {LOADER}, tmp_path / "front-end"
        while missing := [name for name in wanted if not (folder / name).exists()]:
            for name in missing:
                with urllib.request.urlopen(address + name, timeout=PATIENCE) as answer:
                    text = answer.read().decode()
                if name == LOADER and not text:
                    pytest.skip("this Chromium serves no front end")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
                wanted |= {posixpath.normpath(posixpath.join(posixpath.dirname(name), other))
                           for other in IMPORTED.findall(text)}
    except urllib.error.URLError as error:
        pytest.skip(f"this Chromium serves no front end: {error}")
    finally:
        browser.terminate()
        browser.wait()
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "look.mjs").write_text(SCRIPT)
    return folder


@pytest.mark.uninstrumented("a browser has nothing to do with it")
def test_devtools_opens_a_snapshot(front_end, tmp_path):
    """It finds the objects, their classes and sizes, and all of it reachable."""
    path = tmp_path / "a.heapsnapshot"
    with gcheap.Heap("8MiB") as heap, heap.attach() as m:
        node = heap.shape("Node", refs=("left", "right"), raw=[("key", "u8")])
        root = None
        for key in range(1000):
            root = m.new(node, left=root, key=key)
        slots = m.new_slots(10)
        slots[3] = root
        heap.snapshot(path)
        census = {str(row["shape"]): [int(row["objects"]), int(row["bytes"])]
                  for row in heap.census()}
        live = sum(nbytes for _, nbytes in census.values())
    done = subprocess.run(["node", "look.mjs", path], cwd=front_end, capture_output=True,
                          text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert census["Node"] == [1000, 32_000]
    assert seen["bytes"] == live and seen["nodes"] >= 1001
    assert {name: found for name, found in seen["classes"].items() if name} == census
