"""`mode="ray"`: each actor in a Ray actor of its own. Ray places it, and carries what is large.

Guarantees: see `base`. Where Ray does not run it is started, or the cluster of RAY_ADDRESS joined, with a line in the
log. What the cluster cannot give now is said at once: what was asked for, and what there is.
Called by: the registry; the pool; `concurry.detached` (`start_ray`).
"""

from __future__ import annotations

import logging
import os
from typing import Any

try:
    import ray as ray  # also for who must not import it before this has said what is missing
except ModuleNotFoundError as missing:
    if missing.name != "ray":
        raise
    raise ModuleNotFoundError(
        "mode='ray' needs Ray, which is not installed: pip install ray. For one machine mode='process' needs nothing",
        name="ray",
    ) from None

from concurry.transports import codec
from concurry.transports.base import Channel, Job, Transport
from concurry.transports.ray_channel import RayChannel
from concurry.transports.ray_push import RayParcel
from concurry.transports.ray_refs import Stored, WithRefs, collecting, kinds, know_client

log = logging.getLogger("concurry")

_AMOUNTS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory", "object_store_memory": "object_store_memory"}


class RayTransport(Transport):
    """`mode="ray"`."""

    elsewhere = True
    forcible = True
    refers = True
    ahead_s = 0.1
    lend_s = 0.04

    @staticmethod
    def encode(call: Any) -> None:
        """Bring a call into the form in which it is sent. Raises EncodeError where that cannot be."""
        args, kwargs = call.args, call.kwargs
        if not kinds.isdisjoint(map(type, args)):
            args = tuple(map(_by_value, args))
        if kwargs and not kinds.isdisjoint(map(type, kwargs.values())):
            kwargs = {name: _by_value(value) for name, value in kwargs.items()}
        with collecting() as refs:
            frame, buffers = codec.pack_call(call.name, args, kwargs)
        call.args = frame
        call.kwargs = WithRefs(buffers, list(refs.values())).arrive() if refs else buffers

    @staticmethod
    def result_of(future: Any) -> Any:
        """What stands for a future that is done among a call's arguments: what is in the store stays there."""
        if future.is_unread():
            unread = future.unread()
            parcel, how, body = unread.parcel, unread.how, unread.body
            if isinstance(parcel, RayParcel) and body is not None and how != codec.CARRYING:
                return Stored(parcel.ref, how, body)
        return future.result()

    def __init__(self) -> None:
        self._opened: list[RayChannel] = []

    def open(self, job: Job) -> Channel:
        start_ray()
        if ray.util.client.ray.is_connected():
            know_client()
        self._opened = [channel for channel in self._opened if not (channel.is_ready or channel.join(0))]
        _look_for_room(job, 1 + len(self._opened))
        channel = RayChannel(job)
        channel.start()
        self._opened.append(channel)
        return channel


def _by_value(value: Any) -> Any:
    return Stored(value) if type(value) in kinds else value


def start_ray() -> None:
    """Start Ray, or join the cluster of RAY_ADDRESS, where neither is so yet."""
    if not ray.is_initialized():
        where = os.environ.get("RAY_ADDRESS")
        log.warning("concurry: Ray was not initialised: %s", f"joining {where}" if where else "ray.init() is called")
        ray.init()


def _look_for_room(job: Job, actors: int) -> None:
    """Whether there is room for this actor, and those of its pool that are not there yet."""
    options = job.settings["ray"]
    if options.get("placement_group") not in (None, "default") or options.get("scheduling_strategy") is not None:
        return  # Ray says
    wanted = {key: options[name] for name, key in _AMOUNTS.items() if options.get(name)}
    wanted.update(options.get("resources") or {})
    free, there = ray.available_resources(), ray.cluster_resources()
    short = {key: amount for key, amount in wanted.items() if free.get(key, 0) < amount * actors}
    if short:
        told = ", ".join(
            f"{key}: {amount:g} wanted by each, {free.get(key, 0):g} free of {there.get(key, 0):g}"
            for key, amount in short.items()
        )
        log.warning(
            "%s waits for the cluster (%s). It starts when there is room; init_timeout bounds the wait. Ask for less "
            "(num_cpus=0.1), or for fewer workers",
            job.who,
            told,
        )
