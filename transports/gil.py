"""Whether this interpreter runs threads at the same time. Called by: whoever relies on the order that the GIL gives."""

from __future__ import annotations

import sys
from typing import Final

FREE_THREADED: Final[bool] = not getattr(sys, "_is_gil_enabled", lambda: True)()
