"""What the whole machine shares, and tests that run beside each other see of one another."""

from __future__ import annotations

import os
from pathlib import Path


def shared_memory() -> set[str]:
    """What is in /dev/shm, but for what tests/test_house.py leaves there on purpose, in whichever process it runs."""
    found = Path("/dev/shm").iterdir() if os.path.isdir("/dev/shm") else ()
    return {path.name for path in found if not path.name.startswith("concurry-left-")}
