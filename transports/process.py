"""`mode="process"`: each actor in a child process of its own. Linux only.

Guarantees: see `base`. Called by: the registry; the pool.
"""

from __future__ import annotations

import sys
from typing import Any

from concurry.transports import codec, hub, nesting
from concurry.transports.base import Channel, Job, Transport
from concurry.transports.process_channel import ProcessChannel


class ProcessTransport(Transport):
    """`mode="process"`."""

    elsewhere = True
    forcible = True
    makings_beside = True

    @staticmethod
    def encode(call: Any) -> None:
        """Bring a call into the form in which it is sent. Raises EncodeError where that cannot be."""
        call.args, call.kwargs = codec.pack_call(call.name, call.args, call.kwargs)

    def open(self, job: Job) -> Channel:
        if sys.platform != "linux":
            raise NotImplementedError(
                f"{job.who}: mode='process' needs Linux (it waits for pidfds and lends memfds). Use mode='thread', or "
                f"concurrent.futures.ProcessPoolExecutor for calls that compute"
            )
        nesting.refuse_in_import(job.who)
        at = hub.retain()
        try:
            channel = ProcessChannel(job, at)
        except BaseException:
            ending = hub.release(at)
            if ending is not None and not at.is_here():
                ending.join()
            raise
        channel.start()  # from here on the channel gives the hub back
        return channel
