"""A compiled retry policy: what is tried again, when, and which results are good. Pure, but for the randomness of a
wait, which is handed in.

Guarantees: immutable; can be pickled where the functions in it can. A predicate or validator that raises never takes
the place of the call's own outcome: see `retries_exception` and `refusal`.
Assumes: whoever makes one has checked the values (`concurry.retry` does).
Called by: `concurry.runtime.attempts`, in the worker, and in the driver for calls that were lost with their worker.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from concurry.runtime.enums import RetryAlgorithm
from concurry.runtime.raised import is_cancellation
from concurry.runtime.retry_after import carried_wait_s
from concurry.runtime.retry_check import Check
from concurry.runtime.retry_notes import brief
from concurry.transports.errors import MisuseError

log = logging.getLogger("concurry")

_FOREVER_S = sys.float_info.max  # where doubling ends: a number still, so that it can be jittered and compared


class Refusal(NamedTuple):
    """Why a result is not good enough: in words, and what the validator raised, if it did."""

    reason: str
    cause: Exception | None = None


class Policy(NamedTuple):
    """How calls of one method are tried again.

    Attributes:
        num_retries: attempts after the first.
        types, predicates: which exceptions are tried again.
        validators: which results are good: those that pass all.
        algorithm, wait, jitter: how long to wait before the next attempt; `wait` in seconds.
    """

    num_retries: int = 0
    types: tuple[type[BaseException], ...] = (Exception,)
    predicates: tuple[Check, ...] = ()
    validators: tuple[Check, ...] = ()
    algorithm: RetryAlgorithm = RetryAlgorithm.Exponential
    wait: float = 1.0
    jitter: float = 0.3

    @property
    def catches(self) -> tuple[type[BaseException], ...]:
        """The types that one of the rules might apply to, for `except`. Every Exception is among them, also one that no
        rule names: it may end a call whose earlier attempts are to be noted."""
        return (Exception, *(it for it in self.types if not issubclass(it, Exception)))

    def wait_s(
        self,
        attempt: int,
        exception: BaseException | None = None,
        *,
        random: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) before the next: finite, 0.0 or more.

        With jitter, uniform in [0, wait]: "full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter"
        (2015). Never shorter than what `exception` carries (`Retry-After`).

        Args:
            random: gives numbers in [0, 1); wall: the time of day in seconds since 1970.
        """
        return max(self.waits_s(attempt, exception, random=random, wall=wall))

    def waits_s(
        self,
        attempt: int,
        exception: BaseException | None = None,
        *,
        random: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> tuple[float, float]:
        """The two of which `wait_s` is the longer: the policy's own wait, and the one that `exception` carries."""
        seconds = base_wait_s(self.algorithm, self.wait, attempt)
        if self.jitter > 0:
            seconds *= random()
        return seconds, 0.0 if exception is None else carried_wait_s(exception, wall)

    def retries_type(self, exception: BaseException) -> bool:
        """Whether the types alone say that `exception` is tried again. Cancellation and misuse never are."""
        return issubclass(type(exception), self.types) and not (is_cancellation(exception) or is_misuse(exception))

    def retries_exception(
        self, exception: BaseException, context: Mapping[str, Any], complaints: list[str] | None = None
    ) -> bool:
        """Whether `exception` is tried again: the types first, then the predicates, which see `Exception`s only, and
        no misuse of ours.

        A predicate that raises says neither yes nor no; the next one is asked. What it raised is appended to
        `complaints`, for a note on the exception that the caller will see.
        """
        if self.retries_type(exception):
            return True
        if not issubclass(type(exception), Exception) or is_misuse(exception):
            return False
        known = {**context, "exception": exception}
        for predicate in self.predicates:
            try:
                if predicate(known):
                    return True
            except Exception as error:
                complaint = f"the predicate {predicate.label} in retry_on raised {brief(error)}; it counts as no"
                if complaints is None:
                    log.warning("concurry: %s", complaint, exc_info=True)
                else:
                    complaints.append(complaint)
        return False

    def refusal(self, result: Any, context: Mapping[str, Any]) -> Refusal | None:
        """Why `result` is not good, by the first validator that refuses it; None where all accept it.

        A validator that raises refuses: `lambda r: json.loads(r)["answer"]` is a good validator of text that should
        be JSON. What it raised is in the refusal, and ends as the cause of `RetryValidationError`.
        """
        if not self.validators:
            return None
        known = {**context, "result": result}
        for validator in self.validators:
            try:
                if not validator(known):
                    return Refusal(f"the validator {validator.label} did not accept the result")
            except Exception as error:
                return Refusal(f"the validator {validator.label} raised {brief(error)}", error)
        return None


def base_wait_s(algorithm: RetryAlgorithm, wait: float, attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, before jitter. Finite, however large `attempt` is."""
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, not {attempt}")
    try:
        if algorithm is RetryAlgorithm.Exponential:
            seconds = math.ldexp(wait, attempt - 1)
        elif algorithm is RetryAlgorithm.Linear:
            seconds = wait * float(attempt)
        elif algorithm is RetryAlgorithm.Fibonacci:
            seconds = wait * _fibonacci(attempt)
        else:
            seconds = wait
    except OverflowError:
        return _FOREVER_S
    return min(seconds, _FOREVER_S)


def _fibonacci(n: int) -> float:
    """1, 1, 2, 3, 5, ...; floats, of which the 1,476th is the last that is finite."""
    a, b = 0.0, 1.0
    for _ in range(min(n, 1_476)):
        a, b = b, a + b
    return a


def is_misuse(exception: BaseException) -> bool:
    """Whether this is the library's own word on how it is used, also as one of a group: the next attempt would end
    alike, and what was paid for would be paid for again."""
    kind = type(exception)  # its `__class__` may be a user's
    if issubclass(kind, BaseExceptionGroup):
        subgroup: Any = BaseExceptionGroup.subgroup
        try:
            return subgroup(exception, MisuseError) is not None
        except Exception:  # too deep, or a `derive` of the user's that raises: then not as far as can be seen
            return False
    return issubclass(kind, MisuseError)
