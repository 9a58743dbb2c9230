"""The logger `concurry`, and the fields that its records have: `worker`, `call`, `attempt`.

    log.warning("...", *arguments, extra=about(member, "call_llm", 2))  -->  a format "%(worker)s %(call)s %(message)s"

Guarantees: each record of that logger has all three, None where nothing is known or meant, so a format may name them.
Called by: whoever logs something about a worker or a call. The other two floors' first modules install it by import.
"""

from __future__ import annotations

import logging
from typing import Any, Final

FIELDS: Final = ("worker", "call", "attempt")
log = logging.getLogger("concurry")


def about(worker: Any = None, call: str | None = None, attempt: int | None = None) -> dict[str, Any]:
    """A record's `extra`.

    Args:
        worker: as text its name, such as ``LLM[3]``. call: the method. attempt: its number, from 1.
    """
    return {"worker": None if worker is None else str(worker), "call": call, "attempt": attempt}


def with_fields(record: logging.LogRecord) -> bool:
    """A filter that lets everything through, and gives a record the fields that it has not."""
    for name in FIELDS:
        if not hasattr(record, name):
            setattr(record, name, None)
    return True


log.addFilter(with_fields)
