"""One call under a retry policy: its attempts, and what each outcome leads to.

    run / run_async                   Attempts (pure: outcomes and `now` in, a step out)
    the method, inside `scope()`
      returned                    --> returned(result, now)  -> Done(result) | Wait(seconds) | Raise(error)
      raised                      --> raised(exception, now) ->                Wait(seconds) | Raise(error)
    `wait(seconds)`: True         --> again(now)   -> None: the next attempt; or what ends the call
                     False        --> stopped()    -> what ends the call: the actor is told to end

Guarantees: every decision is made in `Attempts`, once, for both ways of running and for the driver, which continues
the count of a call that was lost with its worker. Whatever the limits an attempt took (`scope`), they are given back
before its wait. Of earlier attempts only short notes are kept, no exception and no traceback; results that were
refused are kept, since `RetryValidationError` hands them out. No reference cycle is left behind.
Assumes: `wait` can be woken by whoever ends the actor, and does not block the loop in the async form; `scope`'s
context manager does not swallow exceptions.
Called by: the actor's loop; `wrap_named`'s functions, for a method that the policy names and that is called as
`self.method()`.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from concurry.runtime.clock import Clock
from concurry.runtime.raised import is_cancellation
from concurry.runtime.retry_notes import Outcomes, brief, cut_traceback, note, short
from concurry.runtime.retry_policy import Policy
from concurry.transports.errors import RetryValidationError
from concurry.transports.logs import about

log = logging.getLogger("concurry")

_LONG_WAIT_S = 60.0  # of a wait that somebody else asks for: from here on a user wonders why nothing happens

Scope = Callable[[], AbstractContextManager[object, None]]


class CallInfo(NamedTuple):
    """Which method is called, for predicates, validators and messages."""

    method_name: str
    worker_class_name: str = ""
    worker: str = ""  # which of them, such as ``LLM[3]``; for the log

    def __str__(self) -> str:
        return f"{self.worker_class_name}.{self.method_name}()" if self.worker_class_name else f"{self.method_name}()"


class Done(NamedTuple):
    """The call ends with this result."""

    result: Any


class Wait(NamedTuple):
    """Another attempt follows after `seconds`."""

    seconds: float


class Raise(NamedTuple):
    """The call ends with this exception."""

    error: BaseException


class Attempts:
    """The attempts of one call. Not thread-safe; whoever runs the call has it.

    Args:
        policy: what is tried again; call: for messages and predicates; args, kwargs: the call's.
        now: a monotonic time in seconds, when the first attempt began.
        number: the number of the attempt that runs first, from 1. earlier: of attempts before it, number and outcome.
        deadline: a time of the same clock; no attempt begins at it or after.
        random, wall: see `Policy.wait_s`.

    Attributes:
        number: of the attempt that runs, or, between two, of the one that has ended.
    """

    __slots__ = (
        "_args",
        "_call",
        "_cause",
        "_deadline",
        "_earlier",
        "_error",
        "_kwargs",
        "_outcome",
        "_policy",
        "_random",
        "_reasons",
        "_results",
        "_started",
        "_wall",
        "number",
    )

    def __init__(
        self,
        policy: Policy,
        call: CallInfo,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        now: float,
        *,
        number: int = 1,
        earlier: Iterable[tuple[int, str]] = (),
        deadline: float | None = None,
        random: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.number = number
        self._policy, self._call, self._args, self._kwargs = policy, call, args, kwargs
        self._started, self._deadline = now, deadline
        self._random, self._wall = random, wall
        self._earlier: Outcomes | None = None  # of the attempts before number `number`; made when there are any
        for attempt, outcome in earlier:
            self._note_outcome(attempt, outcome)
        self._results: list[Any] = []  # that were refused; Invariant: as long as `_reasons`
        self._reasons: list[str] = []
        self._cause: Exception | None = None  # what the validator of the last refused result raised
        # Between two attempts, of the one that has ended: in words, and its exception (None: a refused result).
        self._outcome = ""
        self._error: BaseException | None = None

    def begin(self, now: float) -> BaseException | None:
        """Begin the first attempt. Returns what to raise instead where the deadline has passed."""
        if self._deadline is None or now < self._deadline:
            return None
        return TimeoutError(f"{self._call}: call_timeout ends it: its time was over before attempt {self.number} began")

    def returned(self, result: Any, now: float) -> Done | Wait | Raise:
        """The attempt came to a result."""
        if not self._policy.validators:
            return Done(result)
        refusal = self._policy.refusal(result, self._context(now))
        if refusal is None:
            return Done(result)
        self._results.append(result)
        self._reasons.append(refusal.reason)
        self._cause = refusal.cause
        self._outcome, self._error = f"{refusal.reason}: {short(result)}", None
        return Raise(self._last()) if self._used_up() else self._next(now)

    def raised(self, exception: BaseException, now: float) -> Wait | Raise:
        """The attempt raised. Where it is not tried again, `Raise` has this very exception, with notes."""
        if is_cancellation(exception):
            return Raise(exception)
        cut_traceback(exception)
        self._outcome, self._error = brief(exception), exception
        if self._used_up() or not self._retries(exception, now):
            return Raise(self._last())
        return self._next(now)

    def again(self, now: float) -> BaseException | None:
        """The wait is over: begin the next attempt. Returns what to raise instead where the deadline has passed."""
        if self._deadline is not None and now >= self._deadline:
            return self._late(f"its time was over before attempt {self.number + 1} began")
        self._note_outcome(self.number, self._outcome)
        self._error = None
        self.number += 1
        return None

    def _note_outcome(self, attempt: int, outcome: str) -> None:
        if self._earlier is None:
            self._earlier = Outcomes()
        self._earlier.add(attempt, outcome)

    def stopped(self) -> BaseException:
        """What the call ends with where there will be no further attempt, since the actor is told to end."""
        return self._last("; not tried again, because the worker is stopping")

    # -- what decides --------------------------------------------------------------------------------------------

    def _used_up(self) -> bool:
        return self.number > self._policy.num_retries

    def _retries(self, exception: BaseException, now: float) -> bool:
        complaints: list[str] = []
        retries = self._policy.retries_exception(exception, self._context(now), complaints)
        for complaint in complaints:
            text = f"concurry: {self._call}: {complaint}"
            note(exception, text, replacing=text)
        return retries

    def _next(self, now: float) -> Wait | Raise:
        own, carried = self._policy.waits_s(self.number, self._error, random=self._random, wall=self._wall)
        seconds = max(own, carried)
        if self._deadline is not None and now + seconds >= self._deadline:
            left = max(0.0, self._deadline - now)
            return Raise(
                self._late(f"attempt {self.number + 1} needs a wait of {seconds:.3g} s, {left:.3g} s are left")
            )
        call = self._call
        told = about(call.worker or call.worker_class_name or None, call.method_name, self.number)
        log.info("concurry: %s: attempt %d: %s; again in %.3g s", call, self.number, self._outcome, seconds, extra=told)
        if carried >= _LONG_WAIT_S and carried > own:
            log.warning(
                "concurry: %s: %s asks for a wait of %g s (Retry-After), so attempt %d begins only then. Nothing of "
                "ours bounds such a wait: set call_timeout, which ends the call at once where its time would not do",
                *(self._call, type(self._error).__name__, round(carried, 1), self.number + 1),
                extra=told,
            )
        return Wait(seconds)

    def _context(self, now: float) -> dict[str, Any]:
        return {
            "attempt": self.number,
            "elapsed_time": now - self._started,
            "method_name": self._call.method_name,
            "worker_class_name": self._call.worker_class_name,
            "args": tuple(self._args),
            "kwargs": dict(self._kwargs),  # a copy: the next attempt gets what the caller gave
        }

    # -- how an end is told --------------------------------------------------------------------------------------

    def _last(self, why: str = "") -> BaseException:
        """What the last attempt ended with, as the caller gets it."""
        most = self._policy.num_retries + 1
        error: BaseException
        if self._error is not None:
            error, self._error = self._error, None  # kept by one reference only, the raiser's
        else:
            error = RetryValidationError(
                f"{self._call}: attempt {self.number} of {most} had a result that does not pass retry_until: "
                f"{self._reasons[-1]}{why}. The refused results are in .all_results ({len(self._results)}); raise "
                f"num_retries, or let the validator accept them",
                attempts=self.number,
                all_results=self._results,
                validation_errors=self._reasons,
                method_name=self._call.method_name,
            )
            error.__cause__ = self._cause
        if self._earlier is not None or why:
            begin = f"concurry: {self._call} failed"
            before = f"; before that:\n{self._earlier}" if self._earlier is not None else ""
            note(error, f"{begin} in attempt {self.number} of {most}{why}{before}", replacing=begin)
        return error

    def _late(self, why: str) -> BaseException:
        late = TimeoutError(f"{self._call}: call_timeout ends it: {why}. Attempt {self.number}: {self._outcome}")
        late.__cause__ = self._last()
        return late


def run(
    policy: Policy,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    call: CallInfo,
    *,
    clock: Clock,
    wait: Callable[[float], bool],
    scope: Scope = nullcontext,
    first_attempt: int = 1,
    started: float | None = None,
    earlier: Iterable[tuple[int, str]] = (),
    deadline: float | None = None,
    again: Callable[[], object] | None = None,
) -> Any:
    """Call `fn(*args, **kwargs)` under `policy`, in this thread.

    Args:
        call: for messages and predicates.
        wait: waits that many seconds, and returns True; or returns False, early, where the actor is told to end.
        scope: makes the context manager that is entered around each attempt and left before its wait.
        first_attempt: the number of the first attempt here; above 1 for a call that was lost with its worker.
        started: when attempt 1 began, by `clock`; None: now. earlier: of attempts before the first, number and outcome.
        deadline: a time of `clock`; no attempt begins at it or after. again: called as each further attempt begins.

    Returns:
        The first result that is good.

    Raises:
        RetryValidationError: the last attempt's result was refused.
        TimeoutError: no time is left for the next attempt; what the last one ended with is its `__cause__`.
        BaseException: what the last attempt raised, the earlier ones noted.
    """
    now = clock.now()
    began = now if started is None else started
    attempts = Attempts(policy, call, args, kwargs, began, number=first_attempt, earlier=earlier, deadline=deadline)
    step: Done | Wait | Raise | None = None
    error = attempts.begin(now)
    try:
        while error is None:
            try:
                with scope():
                    result = fn(*args, **kwargs)
            except policy.catches as exception:
                step = attempts.raised(exception, clock.now())
                if isinstance(step, Raise) and step.error is exception:
                    raise
            else:
                step = attempts.returned(result, clock.now())
            if isinstance(step, Done):
                return step.result
            if isinstance(step, Raise):
                error = step.error
            else:
                result = None  # it may be large, and the wait long
                error = attempts.again(clock.now()) if wait(step.seconds) else attempts.stopped()
                if error is None and again is not None:
                    again()
        raise error
    finally:
        # An exception that leaves here holds this frame by its traceback; this frame must not hold the exception.
        step = error = None
        del attempts


async def run_async(
    policy: Policy,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    call: CallInfo,
    *,
    clock: Clock,
    wait: Callable[[float], Awaitable[bool]],
    scope: Scope = nullcontext,
    first_attempt: int = 1,
    started: float | None = None,
    earlier: Iterable[tuple[int, str]] = (),
    deadline: float | None = None,
    again: Callable[[], object] | None = None,
) -> Any:
    """The same as `run` for a method that may return an awaitable, which is awaited inside `scope`. `wait` is awaited:
    the loop runs other calls meanwhile. Being cancelled ends the call at once, in an attempt as in a wait."""
    now = clock.now()
    began = now if started is None else started
    attempts = Attempts(policy, call, args, kwargs, began, number=first_attempt, earlier=earlier, deadline=deadline)
    step: Done | Wait | Raise | None = None
    error = attempts.begin(now)
    try:
        while error is None:
            try:
                with scope():
                    result = fn(*args, **kwargs)
                    if hasattr(result, "__await__"):
                        result = await result
            except policy.catches as exception:
                step = attempts.raised(exception, clock.now())
                if isinstance(step, Raise) and step.error is exception:
                    raise
            else:
                step = attempts.returned(result, clock.now())
            if isinstance(step, Done):
                return step.result
            if isinstance(step, Raise):
                error = step.error
            else:
                result = None  # it may be large, and the wait long
                error = attempts.again(clock.now()) if await wait(step.seconds) else attempts.stopped()
                if error is None and again is not None:
                    again()
        raise error
    finally:
        # An exception that leaves here holds this frame by its traceback; this frame must not hold the exception.
        step = error = None
        del attempts


def wrap_named(
    policy: Policy,
    method: Callable[..., Any],
    call: CallInfo,
    *,
    is_async: bool,
    clock: Clock,
    wait: Callable[[float], Any],
    scope: Scope = nullcontext,
    deadline: Callable[[], float | None] | None = None,
) -> Callable[..., Any]:
    """A function that looks like `method` and runs it under `policy`, to be set on the worker's instance.

    So `self.method()` inside the worker is tried again as well. A call from outside applies the policy once, by
    calling either this function, or `run` with the bound method that was there before.

    Args:
        method: bound. The function keeps it, and with it the instance: where it is set on that instance, take it off
            again when the actor ends, or only the garbage collector frees the instance.
        is_async: whether `method` returns an awaitable; the function is a coroutine function then, and `wait` awaited.
        deadline: gives the deadline of the call that runs now; None: there is none.
        clock, wait, scope: see `run`.
    """
    if is_async:

        async def retried_async(*args: Any, **kwargs: Any) -> Any:
            until = None if deadline is None else deadline()
            return await run_async(
                policy, method, args, kwargs, call, clock=clock, wait=wait, scope=scope, deadline=until
            )

        return functools.wraps(method)(retried_async)

    def retried(*args: Any, **kwargs: Any) -> Any:
        until = None if deadline is None else deadline()
        return run(policy, method, args, kwargs, call, clock=clock, wait=wait, scope=scope, deadline=until)

    return functools.wraps(method)(retried)
