"""What a call to `wait`, `gather` and their like was given: which futures, in which shape, and how to tell of progress.

Guarantees: the user's iterables are walked to their end before anything is hooked, so what one of them raises comes
out at the caller's line and leaves nothing behind; a future of another library is wrapped for the time of the wait
only, and let go afterwards.
Assumes: nothing of time or threads; blocking is done in `waiting`, awaiting in `waiting_async`.
Called by: those two.
"""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from types import CoroutineType
from typing import Any, Final, TypeAlias, TypedDict, TypeGuard, cast

from concurry.runtime.clock import system
from concurry.runtime.enums import ReturnWhen
from concurry.runtime.foreign import as_future, cut, scheduled
from concurry.runtime.future import BaseFuture, SyncFuture
from concurry.runtime.hooks import failed, raised

Progress: TypeAlias = "bool | Mapping[str, Any] | Callable[[int, int, float], object] | None"
Futures: TypeAlias = "list[BaseFuture[Any]]"
Part: TypeAlias = "BaseFuture[Any] | Branch"  # an item of the user's: a future, or with `recurse` a container of such

NOTHING: Final[Any] = object()


class Waiting(TypedDict, total=False):
    """The options that all of `wait`, `gather` and their twins take, for their types."""

    timeout: float | None
    progress: Progress
    polling: object


class Branch:
    """A container within the items: how it is made again, of the results."""

    __slots__ = ("make", "parts")

    def __init__(self, make: Callable[[list[Any]], Any], parts: list[Part]) -> None:
        self.make = make
        self.parts = parts


class Items:
    """The items of one wait.

    Args:
        who: the public function, for messages.
        fs, more: its positional arguments.
        timeout_s: seconds from now, or None.
        recurse: whether containers among the items are looked into.
        in_loop: whether the caller is a coroutine, so that coroutines and other awaitables become tasks.

    Attributes:
        deadline: when the wait must end, on the monotonic clock; None: never.
        keys: of a mapping; None: the items are numbered.
        parts: the items, in the given order.
        leaves: the futures in them, in the given order; a plain value is a done one.
        tasks: the wrappers of the tasks that were made here, of coroutines.
    """

    def __init__(
        self,
        who: str,
        fs: Any,
        more: tuple[Any, ...],
        timeout_s: float | None,
        *,
        recurse: bool,
        in_loop: bool = False,
    ) -> None:
        self.who = who
        self.timeout_s = timeout_s
        self.deadline = _deadline(who, timeout_s)
        self.keys, values = _values_of(who, fs, more, recurse)
        self.leaves: Futures = []
        self.tasks: Futures = []
        self._given: dict[BaseFuture[Any], Any] = {}  # wrapper made here -> what the user gave
        self._known: dict[int, BaseFuture[Any]] = {}  # id of what was given -> its leaf, while the items are walked
        self._in_loop = in_loop
        try:
            if recurse:
                self.parts: list[Part] = [self._part(value) for value in values]
            else:
                self.leaves = [value if isinstance(value, BaseFuture) else self._leaf(value) for value in values]
                same: list[Any] = self.leaves
                self.parts = same
        except BaseException:
            self.cancel_tasks()
            self.let_go()
            raise
        finally:
            self._known.clear()

    def _part(self, value: Any) -> Part:
        make: Callable[[list[Any]], Any]
        children: Iterable[Any]
        if _is_mapping(value):
            keys = list(value)
            make, children = (lambda results: dict(zip(keys, results, strict=True))), list(value.values())
        elif _is_container(value):
            children = list(value)
            kind: Any = type(value)
            make = getattr(kind, "_make", None) or next(k for k in (list, tuple, set, frozenset) if issubclass(kind, k))
        else:
            leaf = self._leaf(value)
            self.leaves.append(leaf)
            return leaf
        return Branch(make, [self._part(child) for child in children])

    def _leaf(self, value: Any) -> BaseFuture[Any]:
        """One of ours for whatever the user gave; for what was given twice, the same one."""
        if _is_ours(value):
            return value
        leaf = self._known.get(id(value))
        if leaf is None:
            leaf = self._made(value)
            if leaf in self._given:  # and is no plain value
                self._known[id(value)] = leaf
        return leaf

    def _made(self, value: Any) -> BaseFuture[Any]:
        if self._in_loop and type(value) is CoroutineType:  # most of those that there are; the others below
            return self._task(cast("Coroutine[Any, Any, Any]", value))
        leaf = as_future(value)
        if leaf is not None:
            self._given[leaf] = value
            return leaf
        if self._in_loop and _is_awaitable(value):
            return self._task(value if _is_coroutine(value) else _awaited(value))
        if _is_coroutine(value):
            name = getattr(value, "__qualname__", type(value).__name__)
            value.close()  # or Python would complain a second time, later and elsewhere, that nobody awaited it
            raise RuntimeError(
                f"Cannot schedule coroutine {name}() in {self.who}(), which blocks: no running event loop could run it "
                f"meanwhile. Use `await {self.twin}(...)` in a coroutine."
            )
        return SyncFuture(value)

    def _task(self, coroutine: Coroutine[Any, Any, Any]) -> BaseFuture[Any]:
        leaf = scheduled(coroutine)
        self._given[leaf] = leaf.owner.inner
        self.tasks.append(leaf)
        return leaf

    @property
    def twin(self) -> str:
        """The async function to use instead, for messages; `as_completed` has none of its own."""
        return f"async_{'wait' if self.who == 'as_completed' else self.who}"

    def given(self, leaf: BaseFuture[Any]) -> Any:
        """The user's own object for a leaf: the future itself, or the one that it wraps."""
        return self._given.get(leaf, leaf)

    def forget(self, leaf: BaseFuture[Any]) -> Any:
        """The same, and hold it no longer; it is done."""
        return self._given.pop(leaf, leaf)

    def unique(self) -> dict[BaseFuture[Any], None]:
        """The leaves, each once, in order."""
        return dict.fromkeys(self.leaves)

    def pending(self) -> Futures:
        """The leaves that are not done, each once, in order."""
        pending = [leaf for leaf in self.leaves if not leaf.done()]
        return list(dict.fromkeys(pending)) if pending else pending

    def too_late(self, left: int, total: int) -> TimeoutError:
        """The error for a time that is over while so many of all are not done."""
        return TimeoutError(
            f"{self.who}(): {total - left} of {total} futures were done within {self.timeout_s} s; the others go on "
            f"and may be waited for again"
        )

    def results(self, of: Callable[[BaseFuture[Any]], Any]) -> Any:
        """What `gather` returns: a list, or a dict where the items have keys; `of` gives the value of a leaf."""
        results = [of(part) if isinstance(part, BaseFuture) else build(part, of) for part in self.parts]
        return results if self.keys is None else dict(zip(self.keys, results, strict=True))

    def cancel_tasks(self) -> None:
        """Cancel the tasks that were made here: nobody else knows them."""
        for task in self.tasks:
            task.cancel()

    def let_go(self) -> None:
        """The wait is over: leave nothing in the futures of others that are not done."""
        if len(self._given) > len(self.tasks):
            for leaf in set(self._given).difference(self.tasks):
                if not leaf.done():
                    cut(leaf)


def build(part: Part, of: Callable[[BaseFuture[Any]], Any]) -> Any:
    """The value of an item whose futures are done, in the item's shape."""
    if isinstance(part, BaseFuture):
        return of(part)
    return part.make([build(child, of) for child in part.parts])


def leaves_of(part: Part) -> Iterator[BaseFuture[Any]]:
    """The futures in an item."""
    if isinstance(part, BaseFuture):
        yield part
    else:
        for child in part.parts:
            yield from leaves_of(child)


def satisfied(when: ReturnWhen, leaves: Iterable[BaseFuture[Any]]) -> bool:
    """Whether what has ended already is enough."""
    if when is ReturnWhen.FIRST_COMPLETED:
        return any(leaf.done() for leaf in leaves)
    return when is ReturnWhen.FIRST_EXCEPTION and any(leaf.done() and raised(leaf) for leaf in leaves)


def first_failed(leaves: Iterable[BaseFuture[Any]]) -> BaseFuture[Any] | None:
    """The first in order of those that have ended and would raise."""
    for leaf in leaves:
        if failed(leaf) and leaf.done():
            return leaf
    return None


def ending_of(when: ReturnWhen, leaves: Collection[BaseFuture[Any]]) -> bool | None:
    """How a `wait` ended, for its reporter."""
    return all(leaf.done() for leaf in leaves) or (None if satisfied(when, leaves) else False)


def sets_of(items: Items, leaves: Iterable[BaseFuture[Any]]) -> tuple[set[Any], set[Any]]:
    """What `wait` returns."""
    done, not_done = set[Any](), set[Any]()
    for leaf in leaves:
        (done if leaf.done() else not_done).add(items.given(leaf))
    return done, not_done


def _deadline(who: str, timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{who}(): timeout must be a number of seconds or None, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError(f"{who}(): timeout must be a number of seconds or None, not NaN")
    return system.now() + timeout


def _is_ours(value: object) -> TypeGuard[BaseFuture[Any]]:
    return isinstance(value, BaseFuture)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_container(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, (list, tuple, set, frozenset))


def _is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    return isinstance(value, Awaitable)


def _is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return isinstance(value, Coroutine)


def _is_structure(value: Any) -> bool:
    """Whether it stands for the items in it. A future never does (asyncio's are iterable), nor does a text."""
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return True
    others = (str, bytes, bytearray, memoryview, type, Awaitable)
    return isinstance(value, Iterable) and not isinstance(value, others)


def _values_of(who: str, fs: Any, more: tuple[Any, ...], recurse: bool) -> tuple[list[Any] | None, list[Any]]:
    """The keys, where there are any, and the items."""
    if fs is NOTHING:
        raise TypeError(
            f"{who}() was given nothing to wait for: pass futures, or a list, tuple, set, dict or generator of them "
            f"(an empty one is fine)"
        )
    if not _is_structure(fs):
        if not recurse:
            for value in more:
                if _is_structure(value):
                    raise ValueError(_both(who, value))
        return None, [fs, *more]
    if more:
        raise ValueError(_both(who, fs))
    if _is_mapping(fs):
        keys, values = list(fs.keys()), list(fs.values())
        if keys and all(map(_is_future, keys)) and not any(map(_is_future, values)):
            if "gather" not in who:
                return None, keys  # the standard library's idiom: what each future is for, by future
            raise ValueError(
                f"{who}() waits for the values of a dict, and in this one the keys are the futures: pass them, "
                f"{who}(futures.keys())"
            )
        return keys, values
    return None, list(fs)


def _is_future(value: object) -> bool:
    return isinstance(value, concurrent.futures.Future) or _is_awaitable(value)


def _both(who: str, structure: Any) -> str:
    return (
        f"{who}(): Cannot provide both a structure ({type(structure).__name__}) and further arguments; pass one "
        f"structure, or futures only. Options are given by name, as in timeout=10"
    )


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


class Reporter:
    """Tells the user's `progress` how many futures are done.

    Raises:
        TypeError: `progress` is none of those it may be.
    """

    __slots__ = ("_bar", "_call", "_said", "_started", "_total")

    def __init__(self, who: str, progress: Progress, total: int | None) -> None:
        self._said = 0
        self._total = total
        self._started = system.now()
        self._bar: Any = None
        self._call: Callable[[int, Any, float], object] | None = None  # the total is None where nobody knows it
        if progress is True or isinstance(progress, Mapping):
            from concurry.progress import ProgressBar

            options: dict[str, Any] = {"total": total, "desc": who, **({} if progress is True else progress)}
            self._bar = ProgressBar(**options)
        elif callable(progress):
            self._call = progress
        else:
            raise TypeError(
                f"{who}(): progress must be True, a dict of ProgressBar options, or a function of "
                f"(completed, total, elapsed), not {progress!r}"
            )

    def at(self, completed: int) -> None:
        """So many are done now."""
        if self._call is not None:
            self._call(completed, self._total, system.now() - self._started)
        elif completed > self._said:
            self._bar.update(completed - self._said)
        self._said = completed

    def end(self, good: bool | None) -> None:
        """The wait is over; None: neither in success nor in failure, but because no more was wanted."""
        bar, self._bar = self._bar, None
        if bar is not None:
            try:
                if good is not None:
                    (bar.success if good else bar.failure)()
            finally:
                bar.close()


def reporter_of(who: str, progress: Progress, total: int) -> Reporter | None:
    """A reporter, where the user wants to be told."""
    return None if progress is None or progress is False else Reporter(who, progress, total)
