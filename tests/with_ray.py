"""Whether Ray is tested, and the Ray that the tests share.

`WITH_RAY`: CONCURRY_TEST_RAY=1 is set (`make test-ray`), and Ray is installed. The ordinary tests never import it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

WITH_RAY = os.environ.get("CONCURRY_TEST_RAY") == "1" and find_spec("ray") is not None


@contextmanager
def cluster() -> Iterator[None]:
    """Ray on this machine, with four CPUs to its name, in a folder of its own, so that nobody joins it by chance."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own
            import ray

            own: Any = {"_temp_dir": folder}
            ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, **own)
        try:
            yield
        finally:
            ray.shutdown()


def running() -> Any:
    """Ray, where it runs."""
    ray = sys.modules.get("ray")
    return ray if ray is not None and WITH_RAY and ray.is_initialized() else None
