"""What a zmq socket's monitor says. Not `zmq.utils.monitor`: that brings asyncio and ssl along, into each child.

Called by: the channel, and the child while it connects.
"""

from __future__ import annotations

import struct


def event_of(frames: list[bytes]) -> tuple[int, int]:
    """The event and its value, of a message that a monitor socket has received (libzmq: zmq_socket_monitor)."""
    event, value = struct.unpack("=Hi", frames[0])
    return event, value
