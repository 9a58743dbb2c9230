"""Workers that outlive their driver (`lifetime="detached"`), and how other drivers find them (`get_actor`).

    driver A --init--> Keeper, a detached Ray actor with a name: it holds an ordinary handle over Ray actors of its own
    driver B --get_actor(name)--> Link --connect--> a session there; the handle comes here as any handle travels
                                       --hear-----> what this side says: one Ray call at a time, with all there is
                                       <--drain---- what that side says: a Ray call that is kept open

Guarantees: what `remote_handle` and `edges` say. The keeper is the supervisor of its actors, and the owner of their
limits, for all drivers: each limit is one. `stop()` of any handle ends it for everybody, and leaves no actor. Drivers
come and go: the calls of one that has gone run on, nobody hears their ends. A keeper that dies takes its actors along;
every open call ends with WorkerDiedError.
Assumes: both sides have the class under the same name.
Called by: `.init()`, `Worker.get_actor`.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import msgpack

from concurry import remote_handle
from concurry.handle import Handle
from concurry.limits import LimitPool, LimitSet
from concurry.methods import method_table
from concurry.options import Options
from concurry.planning import make_plan
from concurry.runtime.edges import Edge
from concurry.runtime.notifier import helper
from concurry.runtime.pool import start
from concurry.transports import codec, luggage, ray_refs
from concurry.transports.errors import WorkerDiedError, WorkerInitError, WorkerStoppedError
from concurry.transports.ray import ray, start_ray

W = TypeVar("W")
NAMESPACE: Final = "concurry"  # where names are, if nothing is said: a driver's own namespace is seen by it alone
_ITS_OWN: Final = ("name", "namespace", "lifetime", "get_if_exists")  # the keeper's, and not its actors'
_ITS_TOO: Final = ("runtime_env",)
_OPEN_S = 30.0  # how long a drain stays open with nothing to bring
_QUIET_S = 120.0  # a session whose driver has asked for nothing for so long is over
_CONNECT_S = 60.0
_LAST_WORDS_S = 2.0  # for drivers to hear that it was stopped


def launch(
    cls: type[W], args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options, *, class_gives_limits: bool
) -> Handle[W]:
    """Start a worker that outlives this process.

    Raises:
        ValueError: no `name`, or one that is taken. TypeError: limits that live in this process.
        Exception: as of `.init()`.
    """
    name = options.ray.get("name")
    if not name:
        raise ValueError(
            f"{cls.__name__}: lifetime='detached' needs name='...', by which {cls.__name__}.get_actor(name) finds it"
        )
    if isinstance(options.limits, LimitSet | LimitPool):
        raise TypeError(
            f"{cls.__name__}: limits={type(options.limits).__name__} lives in this process, and a detached worker's "
            f"limits live with it. Give it the limits themselves: limits=[CallLimit(...), ...]"
        )
    start_ray()
    own = {key: options.ray[key] for key in (*_ITS_OWN, *_ITS_TOO) if options.ray.get(key) is not None}
    own.setdefault("namespace", NAMESPACE)
    inner = Options(options.values, {k: v for k, v in options.ray.items() if k not in _ITS_OWN}, options.given)
    made: Any = ray.remote(Keeper)
    try:
        keeper = made.options(num_cpus=0, max_concurrency=1000, **own).remote(
            name, cls, args, dict(kwargs), inner, class_gives_limits
        )
    except ValueError as error:
        raise ValueError(
            f"{cls.__name__}: Ray does not start {name!r} in namespace {own['namespace']!r}: {error}. If it is there "
            f"already: {cls.__name__}.get_actor({name!r}), or get_if_exists=True, or stop() it first"
        ) from error
    try:
        return _connect(keeper, cls, name, options.init_timeout + _CONNECT_S)
    except BaseException:  # also a Ctrl-C: nobody has it, so nobody could end it
        if not own.get("get_if_exists"):
            ray.kill(keeper)
        raise


def find(cls: type[W], name: str, namespace: str | None) -> Handle[W]:
    """The handle of a detached worker. See `Worker.get_actor`."""
    start_ray()
    where = namespace or NAMESPACE
    try:
        keeper = ray.get_actor(name, namespace=where)
    except ValueError:
        names = sorted(it["name"] for it in ray.util.list_named_actors(all_namespaces=True) if it["namespace"] == where)
        raise ValueError(
            f"{cls.__name__}.get_actor({name!r}): no such actor in namespace {where!r}. There are: "
            f"{', '.join(names) or 'none'}. Only workers of lifetime='detached' are found by name"
        ) from None
    return _connect(keeper, cls, name, _CONNECT_S)


def _connect(keeper: Any, cls: type[W], name: str, timeout_s: float) -> Handle[W]:
    key = keeper._actor_id.hex()
    with _making:
        link = _links.get(key)
    if link is None or link.edge.gone is not None:
        link = Link(keeper, name)
    try:
        uid, ticket, options, facts = _ask(keeper, link.session, cls, name, timeout_s)
        link.open()
    finally:
        link.close_unopened()
    with _making:
        for other in [other for other, it in _links.items() if it.edge.gone is not None]:
            del _links[other]
        _links[key] = link
    with luggage.Arriving(link.edge, [ticket]):
        return remote_handle.arrived(uid, ticket, cls, options, facts)


def _ask(keeper: Any, session: str, cls: type[Any], name: str, timeout_s: float) -> Any:
    """What makes a handle."""
    try:
        theirs, reply = ray.get(keeper.connect.remote(session), timeout=timeout_s)
    except AttributeError:
        raise TypeError(f"{cls.__name__}.get_actor({name!r}): that is an actor of somebody else's") from None
    except ray.exceptions.GetTimeoutError:
        raise WorkerInitError(
            f"{cls.__name__}: the detached worker {name!r} has not answered within {timeout_s:g} s. The cluster may "
            f"have no room for its actors (`ray status`)"
        ) from None
    except ray.exceptions.RayActorError as error:
        raise WorkerDiedError(f"the detached worker {name!r} has ended: {error}") from error
    if theirs is None:  # the pool could not be started, and its keeper ends
        _, _, how, body = codec.read(reply)[0]
        raise codec.unpack_failure(how, body)
    if theirs != cls.__qualname__:
        raise TypeError(f"{cls.__name__}.get_actor({name!r}): the worker of that name is of class {theirs}")
    return reply


# -- the driver's side -------------------------------------------------------------------------------------------------


class Link:
    """This process's connection to one keeper; one for all handles that come by it."""

    def __init__(self, keeper: Any, name: str) -> None:
        self.session = uuid.uuid4().hex
        self.edge = Edge(f"the keeper of {name!r}", self._send)
        self._keeper = keeper
        self._name = name
        self._opened = False
        self._out: list[bytes] = []
        self._sending = False  # whether a `hear` is on its way: what is to be said meanwhile goes with the next
        self._closed = False
        self._lock = threading.Lock()  # protects these four

    def open(self) -> None:
        """Begin to listen."""
        with self._lock:
            opened, self._opened = self._opened, True
        if not opened:
            self._drain()

    def close_unopened(self) -> None:
        """Nobody has come by it."""
        with self._lock:
            opened = self._opened
        if not opened:
            self._over(None)

    def _send(self, message: list[Any]) -> None:
        packed = msgpack.packb(message)
        with self._lock:
            self._out.append(packed)
            if self._sending:
                return
            self._sending = True
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            out, self._out = self._out, []
            self._sending = bool(out)
        if out:
            try:
                future = self._keeper.hear.remote(self.session, out).future()
            except Exception as error:  # Ray was shut down
                self._over(error)
            else:
                future.add_done_callback(partial(helper.post, self._sent))

    def _sent(self, future: Any) -> None:
        try:
            future.result()
        except BaseException as error:
            self._over(error)
        else:
            self._flush()

    def _drain(self) -> None:
        try:
            future = self._keeper.drain.remote(self.session).future()
        except Exception as error:  # Ray was shut down
            self._over(error)
        else:
            future.add_done_callback(partial(helper.post, self._drained))

    def _drained(self, future: Any) -> None:
        try:
            messages = future.result()
        except BaseException as error:  # Ray says that it is gone, or is gone itself; as a cancelled future, too
            self._over(error)
            return
        _hear(self.edge, messages or ())
        if messages is None:
            self._over(None)
        else:
            self._drain()

    def _over(self, error: BaseException | None) -> None:
        who = f"the detached worker {self._name!r}"

        def gone() -> BaseException:
            if error is None:
                return WorkerStoppedError(f"{who} was stopped")
            return WorkerDiedError(f"{who} has ended, or cannot be reached: {error}")

        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self.edge.close(gone)


def _hear(edge: Edge, messages: Iterable[bytes]) -> None:
    for message in messages:
        edge.heard(msgpack.unpackb(message, strict_map_key=False))


_links: dict[str, Link] = {}  # those that were opened, by Ray's name of the keeper
_making = threading.Lock()  # protects `_links`


# -- the keeper's side -------------------------------------------------------------------------------------------------


class _Session:
    """What is said to one driver. `edge`: to it. On the keeper's event loop, but for `_send`."""

    def __init__(self, name: str) -> None:
        self.edge = Edge(f"a driver that uses {name!r}", self._send)
        self._loop = asyncio.get_running_loop()
        self._out: deque[bytes] = deque()  # from any thread; taken one by one, so that none is missed
        self._some = asyncio.Event()
        self._ends = False
        self.asked_at = time.monotonic()

    def _send(self, message: list[Any]) -> None:
        self._out.append(msgpack.packb(message))
        self._loop.call_soon_threadsafe(self._some.set)

    async def drain(self) -> list[bytes]:
        """Wait for something to say, for a while."""
        if not self._out and not self._ends:
            self._some.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), _OPEN_S)
        out: list[bytes] = []
        while self._out:
            out.append(self._out.popleft())
        self.asked_at = time.monotonic()
        return out

    def end(self) -> None:
        """Nobody waits for something to say any more."""
        self._ends = True
        self._some.set()


class _Kept(Handle[W]):
    """The handle in the keeper: its stop is the keeper's end."""

    def stop(self, *args: Any) -> None:
        """See `Handle.stop`."""
        super().stop(*args)
        self.__dict__["_over"]()


class Keeper:
    """The detached Ray actor. All of its methods run on one event loop."""

    def __init__(
        self,
        name: str,
        cls: type[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        class_gives_limits: bool,
    ) -> None:
        self._name = name
        self._cls = cls
        self._sessions: dict[str, _Session] = {}
        self._handle: _Kept[Any] | None = None
        self._failed: bytes | None = None  # why there is no handle
        self._loop: Any = None
        self._over = False
        self._built = threading.Event()
        ray_refs.on_loop = True

        def build() -> None:
            try:
                methods = method_table(cls)
                plan, wire = make_plan(cls, args, kwargs, options, methods, class_gives_limits=class_gives_limits)
                self._handle = _Kept(cls, options, start(plan, wire))
                self._handle.__dict__["_over"] = self._end
            except BaseException as error:  # whatever it is, it is theirs who start it
                self._failed = codec.pack_failure(0, error, f"starting {cls.__name__}, the detached worker {name!r}")
            self._built.set()

        threading.Thread(target=build, name=f"concurry: starts {name}", daemon=True).start()

    def __repr__(self) -> str:
        return f"keeper of {self._name}"

    async def connect(self, session: str) -> tuple[str | None, Any]:
        """Begin a session, or be told of one again. Gives the class's name, and what makes a handle; None: why not."""
        await asyncio.to_thread(self._built.wait)
        self._loop = asyncio.get_running_loop()
        if self._handle is None:
            self._terminate()
            return None, self._failed
        self._forget_the_quiet()
        found = self._sessions.get(session)
        if found is None:
            found = self._sessions[session] = _Session(self._name)
        with luggage.Packing() as handles:
            address = remote_handle.address(self._handle)
        found.edge.lend(handles)
        return self._cls.__qualname__, address

    async def hear(self, session: str, messages: list[bytes]) -> None:
        """What a driver says."""
        found = self._sessions.get(session)
        if found is not None:
            _hear(found.edge, messages)

    async def drain(self, session: str) -> list[bytes] | None:
        """What a driver is to hear, as soon as there is anything; None: it was stopped."""
        found = self._sessions.get(session)
        if found is None and not self._over:
            raise WorkerDiedError(
                f"{self._name!r} has forgotten this driver, which asked for nothing for {_QUIET_S:g} s"
            )
        out = await found.drain() if found is not None else []
        if self._over and not out:
            self._sessions.pop(session, None)
            if not self._sessions:
                self._terminate()
            return None
        return out

    def _forget_the_quiet(self) -> None:
        """Sessions whose drivers have gone, when another comes: they cost nothing but memory."""
        now = time.monotonic()
        for name, session in list(self._sessions.items()):
            if now - session.asked_at > _QUIET_S:
                del self._sessions[name]
                session.edge.close(partial(WorkerDiedError, f"a driver that used {self._name!r} has gone"))

    def _end(self) -> None:
        """It was stopped. Its drivers are told; then it ends."""
        self._over = True

        def tell() -> None:
            for session in self._sessions.values():
                session.end()
            if self._sessions:
                self._loop.call_later(_LAST_WORDS_S, self._terminate)  # a driver that has gone asks no more

        self._loop.call_soon_threadsafe(tell)

    def _terminate(self) -> None:
        ray.get_runtime_context().current_actor.__ray_terminate__.remote()
