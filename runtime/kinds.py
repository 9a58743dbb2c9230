"""Kinds of the runtime's own messages on a control line, in one list: nothing else may use their numbers."""

from __future__ import annotations

from typing import Final

from concurry.transports.control import RUNTIME

LEAVE: Final = RUNTIME  # parent -> child: waits inside methods end, the actor shall end

# Limits: child -> parent, and the answers
LIMIT_TRY: Final = RUNTIME + 1
LIMIT_REQUEST: Final = RUNTIME + 2
LIMIT_RELEASE: Final = RUNTIME + 3
LIMIT_WITHDRAW: Final = RUNTIME + 4
LIMIT_LOOK: Final = RUNTIME + 5
LIMIT_ANSWER: Final = RUNTIME + 6
LIMIT_GRANTED: Final = RUNTIME + 7
LIMIT_SPARE: Final = RUNTIME + 8  # leases granted ahead, and asked back

OVER_MEMORY: Final = RUNTIME + 9  # child -> parent: it takes more than max_memory_per_worker before its first call

# Handles in other processes: both ways. What each of them has beside its kind stands in `edges`
CALL: Final = RUNTIME + 16
CALL_ENDED: Final = RUNTIME + 17
CALL_CANCEL: Final = RUNTIME + 18
HANDLE_RELEASE: Final = RUNTIME + 19
HANDLE_ASK: Final = RUNTIME + 20
WAIT: Final = RUNTIME + 21
ANSWER: Final = RUNTIME + 23
HANDLES: Final = (CALL, CALL_ENDED, CALL_CANCEL, HANDLE_RELEASE, HANDLE_ASK, WAIT, ANSWER)
