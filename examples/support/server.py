"""Starting and stopping the demo server (`examples/llm_server.py`) as a process of its own.

Guarantees: the server is ready when `running_server` yields, and gone when it is left, also after an exception; it ends
by itself when this process does, even by SIGKILL, for it reads a pipe of ours to its end.
Called by: the examples, the tests, the benchmarks. Needs nothing but the standard library here, aiohttp in the child.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "llm_server.py"


@contextmanager
def running_server(**settings: object) -> Iterator[str]:
    """Start the demo server, yield its base URL (``http://127.0.0.1:<port>/v1``), stop it.

    Args:
        settings: the fields of `llm_server.Settings`, such as ``latency=0.05, latency_spread=0, error_rate=0.01``.

    Raises:
        RuntimeError: the server did not start, for instance because of an unknown setting; it says why on stderr.
    """
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    # A session of its own, so that Ctrl-C in the terminal reaches only the client: the server ends with the pipe.
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--until-eof", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the demo server did not start: exit code {process.wait()}; its reason is on stderr")
        yield json.loads(line)["url"]
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def server_stats(base_url: str) -> dict[str, int]:
    """What the demo server counted: requests, tokens, most_at_once, and replies by status ("200", "429", "500")."""
    with _opener.open(base_url.removesuffix("/v1") + "/stats", timeout=10) as reply:
        counts: dict[str, int] = json.load(reply)
    return counts


# No proxy: one that is set for the whole machine cannot reach a server on its loopback address.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
