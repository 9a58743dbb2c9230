"""How deep in processes this one is, and whether it may start another one.

    program (0) --starts--> process (1) --starts--> process (2) ...

Guarantees: a module that starts processes as it is imported, and that these import, makes no endless chain of them: a
process that was itself started by one may start none in the middle of an import. The standard library's
multiprocessing refuses in the same place, and one process earlier: there a module may start none that is imported by
any child.
Called by: the child, which is told its level; the transport, before it starts a process.
"""

from __future__ import annotations

import sys
from types import FrameType

level = 0  # how many processes of ours this one is inside of


def refuse_in_import(who: str) -> None:
    """Raise RuntimeError where a process may not be started."""
    if level < 2:
        return
    module = _imported_here()
    if module is not None:
        raise RuntimeError(
            f"{who}: no process is started here, while {module} is imported in a process that was started by another "
            f"one: each of them would import it, and start the next. Start workers and call tasks in a function, or "
            f'under `if __name__ == "__main__":`, not at the level of a module'
        )


def _imported_here() -> str | None:
    """The module that this thread is about to import, the innermost one."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_find_and_load" and code.co_filename.startswith("<frozen importlib"):
            return str(frame.f_locals.get("name", "a module"))
        frame = frame.f_back
    return None
