"""Documents and browsers for the tests of what reads runs."""
from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile

from gcheap.stress import StressConfig, run_stress
from gcheap.tools.output import dump_json

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
    "google-chrome")


@functools.cache
def _measured(workload: str, backend: str, live: str) -> str:
    return dump_json(run_stress(StressConfig(
        workload=workload, backend=backend, live=live, seconds=0.6, warm_up=0.1,
        noise_seconds=0.05)))


def measured(workload="churn", backend="auto", live="4MiB") -> dict:
    """The document of a short run as JSON brings it back: the caller's own copy."""
    return json.loads(_measured(workload, backend, live))


def changed(value, path: tuple, new):
    """A document with something else at a path; DELETED takes it away.  The rest is shared."""
    step, *rest = path
    value = list(value) if isinstance(value, list) else dict(value)
    if rest:
        value[step] = changed(value[step], tuple(rest), new)
    elif new is DELETED:
        del value[step]
    else:
        value[step] = new
    return value


DELETED = object()


def browse(page: str, *options: str) -> tuple[str, str]:
    """What chromium prints (with --dump-dom the page as it stands after its scripts) of a file, and
    the messages of its console."""
    with tempfile.TemporaryDirectory(prefix="gcheap-chromium-") as home:
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--hide-scrollbars", "--enable-logging=stderr",
             f"--user-data-dir={home}", *options, f"file://{page}"],
            capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)
