"""Whether a KeyboardInterrupt is a Ctrl-C, or what code of a user's raised by itself.

Called by: whoever runs a user's hooks (pickling, `__str__`) and lets nothing of theirs out but a Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from typing import Final

_NONE: Final[tuple[type[BaseException], ...]] = ()
_ONE: Final[tuple[type[BaseException], ...]] = (KeyboardInterrupt,)


def ctrl_c() -> tuple[type[BaseException], ...]:
    """For `except ctrl_c(): raise`, before what is caught. Python raises it in the main thread only, and never where
    SIGINT is ignored, as in our children."""
    if threading.get_ident() != threading.main_thread().ident:
        return _NONE
    return _NONE if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else _ONE
