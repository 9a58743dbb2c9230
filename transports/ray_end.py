"""Why a Ray actor has ended, in our words.

Called by: the channel.
"""

from __future__ import annotations

from concurry.transports.base import Gone


def why(error: BaseException | None, expected: str | None, pid: int | None, node: str, *, killed: bool) -> Gone:
    """What is told of the end of an actor.

    Args:
        error: Ray's; None: it ended as it was asked to. expected: why it was ended, for no fault of it.
        node: where it was, if that is known. killed: whether we did.
    """
    if expected is not None:
        return Gone(expected=expected, killed_by_us=killed)
    if error is None:
        return Gone()
    if killed:
        return Gone(pid=pid, signal="SIGKILL", killed_by_us=True)
    where = f" on node {node}" if node else ""
    return Gone(cause=error, pid=pid, said=f"what Ray says{where}: {_briefly(error)}")


def _briefly(error: BaseException) -> str:
    """Ray's reason without the paragraphs around it."""
    text = " ".join(str(error).split())
    for begin in ("The actor is dead because ", "The actor died because "):
        text = text[text.find(begin) + len(begin) :] if begin in text else text
    return f"{type(error).__name__}: {text.partition(' Some common causes')[0]}"
