"""The wait that an exception carries: what a server says with `Retry-After`, or a client library with `retry_after`.

Guarantees: `carried_wait_s` never raises, whatever an exception holds. Rubbish counts as nothing: text that is neither
a number nor a date, negative, NaN, infinite, or longer than a year (a time stamp where seconds were meant).
Source of the header: RFC 9110, section 10.2.3, seconds or an HTTP date; fractions of a second are taken too.
Called by: `concurry.runtime.retry_policy`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("concurry")

LONGEST_S = 366 * 86_400.0


def carried_wait_s(exception: BaseException, wall: Callable[[], float]) -> float:
    """The longest wait that `exception` asks for, in seconds; 0.0 where it asks for none.

    Looked at: its `retry_after`, and `Retry-After` in its `response.headers` (httpx, requests, openai, litellm) and in
    its own `headers` (aiohttp, urllib). `wall()` is the time of day as `time.time` gives it, for dates.
    """
    try:
        return max(_seconds(value, wall) for value in (0.0, *_said(exception)))
    except Exception:
        # Attributes and headers are other people's code. Their errors must not take the place of the one at hand.
        log.debug("concurry: the wait that %s carries cannot be read", type(exception).__name__, exc_info=True)
        return 0.0


def _said(exception: BaseException) -> Iterator[Any]:
    yield getattr(exception, "retry_after", None)
    for holder in (getattr(exception, "response", None), exception):
        headers = getattr(holder, "headers", None)
        if headers is not None:
            # All of them instead of one look-up: a plain dict knows no case, and some clients keep bytes or pairs.
            for name, value in headers.items() if hasattr(headers, "items") else headers:
                if _text(name).lower() == "retry-after":
                    yield value


def _seconds(value: Any, wall: Callable[[], float]) -> float:
    from datetime import timedelta
    from numbers import Real

    if isinstance(value, bool):
        return 0.0
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (str, bytes)):
        seconds = _of_text(_text(value).strip(), wall)
    elif isinstance(value, Real):
        try:
            seconds = float(value)
        except OverflowError:
            return 0.0
    else:
        return 0.0
    # NaN fails both comparisons
    return seconds if 0.0 < seconds <= LONGEST_S else 0.0


def _of_text(text: str, wall: Callable[[], float]) -> float:
    try:
        return float(text)
    except ValueError:
        pass  # no number: perhaps a date
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:  # "-0000", or no zone at all: HTTP dates are in UTC
            when = when.replace(tzinfo=UTC)
        return when.timestamp() - wall()
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.nan


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
