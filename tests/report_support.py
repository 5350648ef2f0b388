"""Documents and browsers for the tests of what reads runs."""
from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from support import PATIENCE

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
    # Files, not pipes, and a process group of its own: a helper process that outlives chromium
    # would keep a pipe open.
    with tempfile.TemporaryDirectory(prefix="gcheap-chromium-", ignore_cleanup_errors=True) as home:
        with open(f"{home}/out", "wb") as out, open(f"{home}/err", "wb") as err:
            process = subprocess.Popen(
                [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--hide-scrollbars", "--enable-logging=stderr",
                 f"--user-data-dir={home}/profile", *options, f"file://{page}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
            try:
                process.wait(2 * PATIENCE)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed, said = (Path(home, name).read_text(errors="replace") for name in ("out", "err"))
    return printed, "\n".join(line for line in said.splitlines() if ":CONSOLE" in line)
