"""How long the calls of each method took: counts, and quantiles of the time a call ran, from a histogram.

    the loop, a lane --> Tally (one a method and actor) --> Sums (one a method): merged over actors, quantiles

Guarantees: every call that ended is counted, here and nowhere else. Where calls take 50 microseconds or more, each is
timed; of shorter ones every so many'th, which then stands for as many, so that this costs next to nothing. Which ones
those are does not hang on how long they take: the quantiles are of all calls, without a bias. A quantile is within
3.2 % of one of the spans. The first calls are all timed. A reader takes copies, and locks nobody out.
Assumes: threads that share a tally may lose a span where two end in the same instant.
Source of the histogram: HdrHistogram (Gil Tene): buckets that are as wide, in relation, at every magnitude. Of the
weights: Horvitz and Thompson, 1952.
Called by: the actor's loops and lanes; the member of an actor elsewhere; members and the supervisor (`Sums`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Mapping
from typing import Any, Final

_SUB: Final = 4  # bits: each power of two has 16 buckets
_PARTS: Final = 1 << _SUB
_WORTH_NS: Final = 50_000  # calls that take so long are timed each: timing one costs a fiftieth of that
_TINY_NS: Final = 2_000  # calls that are shorter pay for the timing of fewer
_MOST: Final = 512  # calls that a timed one may stand for, in the mean
NEVER: Final = 1 << 62
_lock = allocate_lock()  # protects what threads change that share a tally; nothing else is taken under it


def after_fork_in_child() -> None:
    """The lock may have been held by a thread that is not here any more."""
    global _lock
    _lock = allocate_lock()


class Tally:
    """One method of one actor, through all its incarnations.

    Attributes:
        method: bound, where it may be called as it is; None: it has layers, or there is no actor.
        total, failed: calls that have ended, and those of them that raised. Counted before they are closed.
        retries: attempts of calls, open ones too, after the first one of each.
        begun: calls that have begun, where that is not the same: several run at once.
        due: the number of calls, that ended or began, after which the next one is timed.
        spans: bucket -> how many calls.
    """

    __slots__ = ("_dice", "_last_ns", "_seen", "begun", "due", "failed", "method", "retries", "spans", "total")

    def __init__(self, due: int = 0) -> None:
        self.method: Any = None
        self.total = self.failed = self.begun = self.retries = 0
        self.due = due
        self.spans: dict[int, int] = {}
        self._seen = 0  # calls that the timed ones stand for
        self._last_ns = 0
        self._dice = 1

    def add(self, *, failed: bool) -> None:
        """A call has ended; on one of several threads."""
        with _lock:
            self.total += 1
            self.failed += failed

    def tried_again(self, times: int = 1) -> None:
        """So many attempts after a call's first one; on any thread."""
        with _lock:
            self.retries += times

    def pick(self, number: int) -> int:
        """The call begins before which there were `number`, and is timed. Returns for how many calls it stands, and
        chooses the next one."""
        weight, last_ns = max(0, number + 1 - self._seen), self._last_ns  # below: another thread was quicker
        self._seen += weight
        gap, first = 1, _PARTS if last_ns > _TINY_NS else 4
        if last_ns and last_ns < _WORTH_NS and number >= first:
            # Not every n-th: callers may have a rhythm of their own. Not `random`: it is the user's to seed.
            self._dice = dice = (self._dice * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
            most = min(_MOST, 1 + number // (_PARTS if last_ns > _TINY_NS else 2), _WORTH_NS // last_ns)
            gap = 1 + (dice >> 8) % (2 * most - 1)
        self.due = number + gap
        return weight

    def took(self, ns: int, weight: int) -> None:
        """A timed call has ended."""
        self._last_ns = ns
        at = bucket(ns)
        self.spans[at] = self.spans.get(at, 0) + weight


class Tallies(dict[str, Tally]):
    """Those of one actor; made as they are needed. `due`: of each, at first."""

    def __init__(self, due: int = 0) -> None:
        super().__init__()
        self._due = due

    def __missing__(self, name: str) -> Tally:
        return self.setdefault(name, Tally(self._due))

    @property
    def total(self) -> int:
        """How many calls have ended."""
        return sum([tally.total for tally in list(self.values())])

    @property
    def retries(self) -> int:
        """How many attempts were not the first of their call."""
        return sum([tally.retries for tally in list(self.values())])

    def ended(self) -> tuple[int, int]:
        """How many calls have ended, and how many of them raised."""
        # Each pair at once: the interpreter looks at other threads at calls and at jumps back, and both are counted
        # by two lines with neither between them.
        both = [(tally.total, tally.failed) for tally in list(self.values())]
        return sum([total for total, _ in both]), sum([failed for _, failed in both])

    def all_ended(self, calls: list[tuple[str, float, bool]]) -> None:
        """Of calls that have ended elsewhere: the method, how many nanoseconds it took (0: nobody knows), and whether
        it failed."""
        for name, ns, failed in calls:
            tally = self[name]
            number = tally.total
            if number >= tally.due and ns:
                tally.took(int(ns), tally.pick(number))
            if failed:
                tally.failed += 1
            tally.total = number + 1


class Sums:
    """The calls of a method, over several actors."""

    def __init__(self) -> None:
        self.count = self.failed = self.retries = 0
        self.spans: dict[int, int] = {}

    def add(self, other: Any) -> None:
        """Those of an actor (a Tally), or of several that are gone (Sums)."""
        count, failed = (other.count, other.failed) if isinstance(other, Sums) else (other.total, other.failed)
        self.count += count
        self.failed += failed
        self.retries += other.retries
        for at, weight in list(other.spans.items()):
            self.spans[at] = self.spans.get(at, 0) + weight

    def told(self) -> dict[str, Any]:
        """As a user sees them."""
        p50_s, p99_s = quantiles_s(self.spans, 0.5, 0.99)
        counts = {"count": self.count, "failed": self.failed, "retries": self.retries}
        return {**counts, "p50_s": p50_s, "p99_s": p99_s}


def add_cut_short(calls: Mapping[str, int], sums: dict[str, Sums]) -> None:
    """Add calls that were ended from outside and are counted nowhere else."""
    for name, count in list(calls.items()):
        each = sums.setdefault(name, Sums())
        each.count += count
        each.failed += count


def bucket(ns: int) -> int:
    """Where a span belongs: the power of two, and which sixteenth of it."""
    shift = ns.bit_length() - _SUB - 1
    return ns if shift <= 0 else (shift << _SUB) + (ns >> shift)


def middle_ns(at: int) -> float:
    """The middle of a bucket."""
    shift = (at >> _SUB) - 1
    return float(at) if shift <= 0 else (at - (shift << _SUB) + 0.5) * (1 << shift)


def quantiles_s(spans: dict[int, int], *wanted: float) -> list[float | None]:
    """The spans, in seconds, below which these parts of the calls are; None: there are none."""
    total = sum(spans.values())
    found: list[float | None] = []
    for part in wanted:
        left = part * total
        value = None
        for at in sorted(spans):
            value = middle_ns(at) / 1e9
            left -= spans[at]
            if left <= 0:
                break
        found.append(value)
    return found
