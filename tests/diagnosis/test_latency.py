"""The histogram: within 3.2 % of each span, and unbiased where only some calls are timed."""

from __future__ import annotations

import random

import pytest

from concurry.runtime.latency import Sums, Tallies, Tally, bucket, middle_ns, quantiles_s


def test_a_bucket_is_as_wide_as_a_sixteenth_of_its_span() -> None:
    for ns in [*range(1, 5000), *(random.Random(1).randrange(1, 1 << 40) for _ in range(2000))]:
        assert abs(middle_ns(bucket(ns)) - ns) <= max(0.5, ns / 32), ns


def test_buckets_are_in_order() -> None:
    found = [bucket(ns) for ns in range(1, 100_000)]
    assert found == sorted(found)


def test_quantiles() -> None:
    spans = {bucket(ns * 1_000_000): 1 for ns in range(1, 101)}
    half, most, all_of_them = quantiles_s(dict.fromkeys(spans, 1), 0.5, 0.99, 1.0)
    assert half is not None
    assert most is not None
    assert all_of_them == pytest.approx(0.1, rel=0.04)
    assert quantiles_s({}, 0.5, 0.99) == [None, None]
    assert quantiles_s({bucket(2_000_000): 7}, 0.5, 0.99) == [pytest.approx(0.002, rel=0.04)] * 2


def run(spans: list[int]) -> Tally:
    """As the loop of an actor does."""
    tally = Tally()
    for ns in spans:
        if tally.total >= tally.due:
            tally.took(ns, tally.pick(tally.total))
        tally.total += 1
    return tally


def test_slow_calls_are_all_timed() -> None:
    tally = run([60_000 + n for n in range(5000)])
    assert sum(tally.spans.values()) == tally.total == 5000


def test_the_first_calls_are_all_timed() -> None:
    assert run([5_000] * 16).spans == {bucket(5_000): 16}


def test_of_short_calls_few_are_timed_and_stand_for_all() -> None:
    class Counting(Tally):
        __slots__ = ("timed",)

        def took(self, ns: int, weight: int) -> None:
            self.timed = getattr(self, "timed", 0) + 1
            super().took(ns, weight)

    tally = Counting()
    for _ in range(100_000):
        if tally.total >= tally.due:
            tally.took(200, tally.pick(tally.total))
        tally.total += 1
    assert tally.timed < 1000
    assert 98_000 <= sum(tally.spans.values()) <= 100_000


@pytest.mark.parametrize("slow", [0.03, 0.3])
def test_a_slow_part_is_told_as_large_as_it_is(slow: float) -> None:
    """Which calls are timed hangs on spans that came before, so not on their own: no bias."""
    dice = random.Random(7)
    told = 0.0
    for _ in range(20):
        tally = run([1_000_000 if dice.random() < slow else 3_000 for _ in range(5_000)])
        told += tally.spans.get(bucket(1_000_000), 0) / sum(tally.spans.values()) / 20
    assert told == pytest.approx(slow, rel=0.25)


def test_what_changes_in_time_is_weighted() -> None:
    """A thousand slow calls, all timed, are not more than a thousand short ones, of which few are."""
    tally = run([100_000] * 10_000 + [500] * 30_000)
    assert tally.spans[bucket(100_000)] / sum(tally.spans.values()) == pytest.approx(0.25, rel=0.05)


def test_sums_of_several_actors_and_calls_measured_elsewhere() -> None:
    one, other = Tallies(), Tallies()
    one.all_ended([("read", 1_000_000, False), ("read", 3_000_000, True), ("write", 0, False)])
    other.all_ended([("read", 3_000_000, False)])
    one["read"].tried_again()
    other["read"].tried_again(2)
    sums: dict[str, Sums] = {}
    for tallies in (one, other):
        for name, tally in tallies.items():
            sums.setdefault(name, Sums()).add(tally)
    assert sums["read"].told() == {
        "count": 3,
        "failed": 1,
        "retries": 3,
        "p50_s": pytest.approx(0.003, rel=0.04),
        "p99_s": pytest.approx(0.003, rel=0.04),
    }
    assert sums["write"].told() == {"count": 1, "failed": 0, "retries": 0, "p50_s": None, "p99_s": None}
    assert one.total == 3
    assert one.ended() == (3, 1)
    assert (one.retries, other.retries) == (1, 2)
