"""Objects of Ray's store in what we send: they go beside the pickle, so that Ray knows who holds them.

    there: collecting() -- pickling -- each ObjectRef leaves its name in the pickle, itself in `collected`
    beside the frame, in a list of Ray's own call: [refs] is borrowed, as Ray does it for its own calls
    here: WithRefs, a list of buffers that keeps them -- unpickling -- each name finds its ObjectRef, or its value

Guarantees: an ObjectRef that is an argument itself arrives as its value, as in a call of Ray's own; one inside
something arrives as it is. A result of ours that is in the store (`Stored`) travels as its reference, and is rebuilt
where it is used: its data does not pass through who sends it on. Elsewhere than here references are pickled as Ray
does it.
Called by: the Ray transport, on both sides.
"""

from __future__ import annotations

import copyreg
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from concurry.transports import codec

_now = threading.local()  # `collected`: the references of what this thread pickles, by name; not there otherwise
copies = False  # in an actor's process: whether what arrives there may be written to
on_loop = False  # in an actor that is an event loop: there `ray.get` complains, whichever thread calls it
_arrived: weakref.WeakValueDictionary[str, _Held] = weakref.WeakValueDictionary()


class _Held:
    """One reference; a thing that can be referred to weakly, which Ray's own cannot."""

    __slots__ = ("__weakref__", "ref")

    def __init__(self, ref: Any) -> None:
        self.ref = ref


class WithRefs(list[Any]):
    """The buffers of a call or a reply, with the references that go along."""

    __slots__ = ("_held", "refs")

    def __init__(self, buffers: Any, refs: list[Any]) -> None:
        super().__init__(buffers or ())
        self.refs = refs
        self._held: list[_Held] = []

    def arrive(self) -> WithRefs:
        """Let them be found by what is unpickled, for as long as this list is held."""
        for ref in self.refs:
            name = ref.hex()
            held = _arrived.get(name) or _Held(ref)
            _arrived[name] = held
            self._held.append(held)
        return self


def there(buffers: Any, refs: Any, *, writable: bool = False) -> list[Any]:
    """The buffers of a call or a reply that has arrived, ready for its unpickling."""
    found = [bytearray(each) if writable or copies else memoryview(each).toreadonly() for each in buffers]
    return WithRefs(found, refs).arrive() if refs else found


def get(ref: Any) -> Any:
    """What a reference stands for; waits for it."""
    if ray.util.client.ray.is_connected():  # its server cannot send views of memory
        made: Any = ray.remote(num_cpus=0)(_plain)
        return ray.get(made.remote(ref))
    return ref.future().result() if on_loop else ray.get(ref)


def _plain(value: Any) -> Any:
    """On the cluster: what can be pickled without buffers beside it."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is list:  # what `Host.fetch` gives
        return [bytes(each) for each in value[0]], value[1]
    return value


class Stored:
    """What stands for a value in the store. `how`, `body`: what our codec made of it; None: it is Ray's own."""

    def __init__(self, ref: Any, how: int | None = None, body: Any = None) -> None:
        self.ref = ref
        self.how = how
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return _value, (_leave(self.ref), self.how, self.body)


def _leave(ref: Any) -> str:
    name: str = ref.hex()
    _now.collected[name] = ref
    return name


def _value(name: str, how: int | None, body: Any) -> Any:
    found = get(_arrived[name].ref)
    if how is None:
        return found
    return codec.unpack_value(how, body, there(*found))


def _reference(name: str) -> Any:
    return _arrived[name].ref


def _reduce(ref: Any) -> Any:
    if getattr(_now, "collected", None) is None:
        return ref.__reduce_ex__(2)  # nothing of ours
    return _reference, (_leave(ref),)


@contextmanager
def collecting() -> Iterator[dict[str, Any]]:
    """What is pickled by this thread meanwhile leaves its references here."""
    before = getattr(_now, "collected", None)
    collected: dict[str, Any] = {}
    _now.collected = collected
    try:
        yield collected
    finally:
        _now.collected = before


copyreg.pickle(ray.ObjectRef, _reduce)  # Ray's own pickler looks into its own table first
kinds: set[type] = {ray.ObjectRef}  # of references


def know_client() -> None:
    """References of Ray Client are such as well."""
    from ray.util.client.common import ClientObjectRef

    if ClientObjectRef not in kinds:
        copyreg.pickle(ClientObjectRef, _reduce)
        kinds.add(ClientObjectRef)
