"""How long the wait before the next attempt is."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import Message
from email.utils import format_datetime
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concurry.retry import RetryConfig, calculate_retry_wait
from concurry.runtime.enums import RetryAlgorithm
from concurry.runtime.retry_after import LONGEST_S, carried_wait_s
from concurry.runtime.retry_policy import Policy, base_wait_s
from tests.names import steady

NOON = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)


def noon() -> float:
    return NOON.timestamp()


@pytest.mark.parametrize(
    ("algorithm", "waits"),
    [
        ("exponential", [2, 4, 8, 16, 32, 64]),
        ("linear", [2, 4, 6, 8, 10, 12]),
        ("fibonacci", [2, 2, 4, 6, 10, 16]),
        ("fixed", [2, 2, 2, 2, 2, 2]),
    ],
)
def test_the_algorithms(algorithm: str, waits: list[float]) -> None:
    policy = Policy(algorithm=RetryAlgorithm(algorithm), wait=2.0, jitter=0.0)
    assert [policy.wait_s(n) for n in range(1, 7)] == waits
    config = RetryConfig(retry_algorithm=algorithm, retry_wait=2.0, retry_jitter=0)
    assert [calculate_retry_wait(n, config) for n in range(1, 7)] == waits


@given(
    algorithm=st.sampled_from(RetryAlgorithm),
    wait=st.floats(0, 1e308),
    attempt=st.one_of(st.integers(1, 60), st.integers(1, 10**9)),
    jitter=st.sampled_from([0.0, 0.3, 1.0, 7.0]),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_finite_and_within_its_bounds(
    algorithm: RetryAlgorithm, wait: float, attempt: int, jitter: float, drawn: float
) -> None:
    base = base_wait_s(algorithm, wait, attempt)
    assert math.isfinite(base)
    assert base >= 0
    if attempt > 1:
        assert base >= base_wait_s(algorithm, wait, attempt - 1)
    seconds = Policy(algorithm=algorithm, wait=wait, jitter=jitter).wait_s(attempt, random=lambda: drawn)
    if jitter:
        assert seconds == base * drawn  # full jitter: [0, wait], however large the jitter is
        assert 0 <= seconds <= base
    else:
        assert seconds == base


def test_waits_grow_no_further_than_a_number_goes() -> None:
    for algorithm in (RetryAlgorithm.Exponential, RetryAlgorithm.Fibonacci):
        assert base_wait_s(algorithm, 1.0, 5_000) > 1e300
        assert base_wait_s(algorithm, 100.0, 5_000) == sys.float_info.max
        assert base_wait_s(algorithm, 0.0, 5_000) == 0.0


def test_real_jitter_uses_the_whole_range() -> None:
    config = RetryConfig(retry_algorithm="fixed", retry_wait=10, retry_jitter=0.3)
    waits = [calculate_retry_wait(1, config) for _ in range(400)]
    assert all(0 <= it <= 10 for it in waits)
    assert min(waits) < 2  # (0.8 ** 400 is 1e-39)
    assert max(waits) > 8


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1, not 0"):
        calculate_retry_wait(0, RetryConfig())


# -- the wait that an exception carries ---------------------------------------------------------------------------


class Carrier(Exception):
    def __init__(self, **attributes: Any) -> None:
        super().__init__("busy")
        self.__dict__.update(attributes)


def with_headers(headers: Any) -> Carrier:
    return Carrier(response=SimpleNamespace(headers=headers))


class Folded:
    """Case-insensitive headers in the manner of the HTTP clients: a mapping that is no dict."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers

    def items(self) -> Any:
        return [(name.replace("_", "-"), value) for name, value in self._headers.items()]


def message(value: str) -> Message:
    headers = Message()
    headers["Retry-After"] = value
    return headers


def multidict(value: str) -> Any:
    from multidict import CIMultiDict, CIMultiDictProxy

    return CIMultiDictProxy(CIMultiDict({"Retry-After": value}))


@pytest.mark.parametrize(
    "exception",
    [
        with_headers({"retry-after": "7"}),
        with_headers({"Retry-After": "7"}),
        with_headers({"RETRY-AFTER": 7}),
        with_headers({"x": "1", b"Retry-After": b" 7 "}),
        with_headers([("Date", "x"), ("Retry-After", "7.0")]),
        with_headers([(b"retry-after", b"7")]),
        with_headers(Folded(Retry_After="7")),
        with_headers(multidict("7")),
        with_headers(message("7")),
        Carrier(headers={"Retry-After": "7"}),  # aiohttp.ClientResponseError, urllib.error.HTTPError
        Carrier(retry_after=7),
        Carrier(retry_after=7.0),
        Carrier(retry_after="7"),
        Carrier(retry_after=Fraction(7)),
        Carrier(retry_after=np.float32(7)),
        Carrier(retry_after=np.int64(7)),
        Carrier(retry_after=timedelta(seconds=7)),
        Carrier(retry_after=3, response=SimpleNamespace(headers={"retry-after": "7"})),
        Carrier(retry_after=7, response=SimpleNamespace(headers={"retry-after": "3"})),
        Carrier(retry_after="soon", response=SimpleNamespace(headers={"retry-after": "7"})),
        with_headers({"retry-after": format_datetime(NOON + timedelta(seconds=7), usegmt=True)}),
        with_headers({"retry-after": "Thu, 29 Feb 2024 12:00:07 -0000"}),
        with_headers({"retry-after": "Thursday, 29-Feb-24 12:00:07 GMT"}),
        with_headers({"retry-after": "Thu Feb 29 12:00:07 2024"}),
        with_headers({"retry-after": "Thu, 29 Feb 2024 13:00:07 +0100"}),
    ],
    ids=lambda it: steady(vars(it)),
)
def test_a_carried_wait_is_found(exception: Carrier) -> None:
    assert carried_wait_s(exception, noon) == pytest.approx(7)


class Rude:
    """Everything about it raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class RudeError(Exception):
    @property
    def retry_after(self) -> float:
        raise KeyError("no")


@pytest.mark.parametrize("value", ["", "soon", "-7", "nan", "inf", "-inf", "1e400", "7 s", "0", "\ud800", "9" * 400])
def test_nonsense_in_a_header_is_ignored(value: str) -> None:
    assert carried_wait_s(with_headers({"retry-after": value}), noon) == 0


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, -1, 0, math.nan, math.inf, 10**400, LONGEST_S + 1, 1_700_000_000, 3j, [7], {"a": 7}),
        *(b"\xff", Decimal("NaN"), timedelta(days=-1), timedelta.max, MagicMock(), object(), Rude(), np.array([1, 2])),
    ],
    ids=steady,
)
def test_nonsense_in_an_attribute_is_ignored(value: Any) -> None:
    assert carried_wait_s(Carrier(retry_after=value), noon) == 0
    assert carried_wait_s(with_headers({"retry-after": value}), noon) == 0


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("plain"),
        RudeError(),
        Carrier(response=Rude()),
        Carrier(response=None, headers=None),
        with_headers(Rude()),
        with_headers(7),
        with_headers("retry-after: 7"),
        with_headers(MagicMock()),
        Carrier(response=MagicMock()),
        with_headers({"retry-after": format_datetime(NOON - timedelta(days=1))}),
        with_headers({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}),
    ],
    ids=steady,
)
def test_rubbish_around_it_is_ignored(exception: BaseException) -> None:
    assert carried_wait_s(exception, noon) == 0


@given(value=st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.dates().map(str)))
def test_whatever_is_carried_is_a_wait_or_nothing(value: Any) -> None:
    for exception in (Carrier(retry_after=value), with_headers({"Retry-After": value})):
        assert 0 <= carried_wait_s(exception, noon) <= LONGEST_S


def test_a_carried_wait_is_the_least_that_is_waited() -> None:
    policy = Policy(wait=1.0, jitter=0.0)
    busy = with_headers({"Retry-After": "7"})
    assert [policy.wait_s(n, busy) for n in range(1, 6)] == [7, 7, 7, 8, 16]
    jittered = Policy(wait=16.0, jitter=0.5)
    assert jittered.wait_s(1, busy, random=lambda: 0.0) == 7  # also with jitter, which would make it shorter
    assert jittered.wait_s(1, busy, random=lambda: 0.75) == 12
    until = with_headers({"Retry-After": format_datetime(NOON + timedelta(seconds=30), usegmt=True)})
    assert policy.wait_s(1, until, wall=noon) == 30
    assert policy.wait_s(1, until, wall=lambda: noon() + 60) == 1


def test_the_exceptions_of_real_clients() -> None:
    import aiohttp
    import httpx2 as httpx
    import openai
    from yarl import URL

    request = httpx.Request("POST", "http://llm.test/v1")
    response = httpx.Response(429, headers={"retry-after": "2.5"}, request=request)
    assert carried_wait_s(openai.RateLimitError("slow down", response=response, body=None), noon) == 2.5
    info: Any = SimpleNamespace(real_url=URL("http://llm.test"))
    assert carried_wait_s(aiohttp.ClientResponseError(info, (), status=429, headers=multidict("4")), noon) == 4
