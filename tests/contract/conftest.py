"""The ways to run a worker, what a mode may leave out and why, and what the tests of this folder share.

One behavioural suite for every mode: a test that asks for `start` (or `way`) runs once for each entry of `WAYS`. A new
mode is a new entry there; what has no meaning in a mode stands, with the reason, in `SKIPS`, and nowhere else.

Nothing here sleeps. A test and its worker meet by signals (`new_signal`), and its worker tells it what was done by
logs (`new_log`): in the modes of one process these are events and lists; a mode with processes of its own gives `Way`
other makers, of signals that are pipes and logs that are files. Whether what arrives is the very object that was sent,
or one like it, is said once: `Way.same`.
"""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from concurry import Worker
from tests.contract.meeting_points import FileLog, Meeting, PipeSignal, Signal
from tests.with_ray import WITH_RAY


@dataclass(frozen=True)
class Way:
    """One way to run a worker.

    Attributes:
        options: what `.options()` is given.
        background: whether a call runs elsewhere, so that its caller goes on meanwhile.
        same_objects: whether caller and method are in one process, and see the same objects.
        sync_at_once, async_at_once: how many plain and async methods of one handle run at the same time.
        pooled: whether the handle stands for several actors, which share nothing but the class.
        signals, logs: make a signal and a log that both sides can use.
        files: the test files that it is for, where that is not all of them.
        needs_ray: whether it is left out but with CONCURRY_TEST_RAY=1 (`make test-ray`).
    """

    name: str
    options: dict[str, Any]
    background: bool = True
    same_objects: bool = True
    sync_at_once: int = 1
    async_at_once: int = 1
    pooled: bool = False
    signals: Callable[[], Any] = Signal
    logs: Callable[[], Any] = list
    files: frozenset[str] | None = None
    needs_ray: bool = False

    def same(self, found: Any, sent: Any) -> bool:
        """Whether a value or an exception has arrived as it should: itself; across processes its equal, of the same
        type, and an exception with its arguments, attributes, notes and causes."""
        if self.same_objects:
            return found is sent
        if isinstance(sent, BaseException):
            return bool(_whole(found) == _whole(sent))
        return type(found) is type(sent) and bool(found == sent)

    def frames_of(self, error: BaseException) -> list[str]:
        """The names of the functions that an exception came through, here or in the other process."""
        if self.same_objects:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        end = error
        while end.__cause__ is not None:
            end = end.__cause__
        assert type(end).__name__ == "RemoteTraceback"
        return re.findall(r"^  File .*, in (.+)$", str(end), re.MULTILINE)


def _whole(error: BaseException | None) -> Any:
    """All of an exception but its frames: the traceback of the other process hangs at its end, as the cause of what has
    none."""
    if error is None or type(error).__name__ == "RemoteTraceback":
        return None
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    notes = list(getattr(error, "__notes__", ()))
    return type(error), error.args, attributes, notes, _whole(error.__cause__)


_PROCESS: dict[str, Any] = {"same_objects": False, "signals": PipeSignal, "logs": FileLog}
_RAY: dict[str, Any] = {**_PROCESS, "needs_ray": True}  # its workers are on this machine: paths are good there too
# Starting processes takes its time. What is the same with one call at a time and with several is tested once.
_POOLED = frozenset(
    [
        "test_pools",
        "test_cancelling",
        "test_ending",
        "test_mailbox",
        "test_event_loops",
        "test_waits_inside",
        "test_the_table",
    ]
)
_AT_ONCE = _POOLED | {"test_exceptions", "test_figures", "test_policies"}

WAYS = [
    Way("sync", {"mode": "sync"}, background=False),
    Way("thread", {"mode": "thread"}),
    Way("pool", {"mode": "thread", "max_workers": 4}, sync_at_once=4, async_at_once=4, pooled=True),
    Way("concurrent", {"mode": "thread", "max_concurrency": 4}, sync_at_once=4, async_at_once=4),
    Way("asyncio", {"mode": "asyncio"}, async_at_once=1000),
    Way("process", {"mode": "process"}, **_PROCESS),
    Way(
        "process-concurrent",
        {"mode": "process", "max_concurrency": 4},
        sync_at_once=4,
        async_at_once=4,
        files=_AT_ONCE,
        **_PROCESS,
    ),
    Way(
        "process-pool",
        {"mode": "process", "max_workers": 2},
        sync_at_once=2,
        async_at_once=2,
        pooled=True,
        files=_POOLED,
        **_PROCESS,
    ),
    Way("ray", {"mode": "ray", "num_cpus": 0}, **_RAY),
    Way(
        "ray-concurrent",
        {"mode": "ray", "num_cpus": 0, "max_concurrency": 4},
        sync_at_once=4,
        async_at_once=4,
        files=_AT_ONCE,
        **_RAY,
    ),
    Way(
        "ray-pool",
        {"mode": "ray", "num_cpus": 0, "max_workers": 2},
        sync_at_once=2,
        async_at_once=2,
        pooled=True,
        files=_POOLED,
        **_RAY,
    ),
    Way(
        "demand", {"mode": "thread", "on_demand": True, "max_workers": 3}, sync_at_once=3, async_at_once=3, pooled=True
    ),
]

_DIRECT = {"sync": "a call is over before its line is: nothing waits, and nothing runs beside its caller"}
_SHARED = {
    "pool": "each call may run on another actor",
    "process-pool": "each call may run on another actor",
    "ray-pool": "each call may run on another actor",
    "demand": "each call has an actor of its own",
}
_DIES_NOT: dict[str, str] = dict.fromkeys(
    ("sync", "thread", "pool", "concurrent", "asyncio", "demand"), "its actor is in this process"
)
_UNTOLD = dict.fromkeys(("ray", "ray-concurrent"), "which attempt had begun is told on the way, and may be lost there")
_CAUGHT = {"sync": "it passes through to the caller, as in a plain call: a Ctrl-C is a Ctrl-C"}
_UNORDERED = {
    "pool": "calls of one thread start in order, but on four actors, which run at their own pace",
    "concurrent": "the same, on four threads",
    "process-concurrent": "the same, on four threads of its process",
    "process-pool": "the same, on two actors",
    "ray-concurrent": "the same, on four threads of its process",
    "ray-pool": "the same, on two actors",
    "demand": "the same, on three actors",
}
_NO_WAITING = """
    test_the_first_failure_ends_the_call_without_waiting_for_the_rest
    test_submission_does_not_wait_and_the_worker_goes_on test_a_waiting_call_can_be_cancelled
    test_stop_ends_calls_that_wait_for_arguments test_many_dependents_of_one_future
    test_cancel_one_running_and_ten_waiting test_a_running_async_method_is_cancelled
    test_a_method_that_refuses_to_be_cancelled_does_not_undo_it test_cancelled_calls_wake_those_who_wait
    test_wait_for_cancels_what_it_gives_up test_wait_for_cancels_a_running_async_method
    test_result_with_a_timeout_leaves_the_call_alone test_a_full_mailbox_raises
    test_a_full_mailbox_blocks_until_there_is_room test_calls_that_wait_for_an_argument_count
    test_a_cancelled_call_gives_its_place_back test_a_callback_never_blocks test_stop_wakes_callers_that_are_blocked
    test_stop_cancels_what_waits_and_lets_end_what_runs test_stop_without_time_leaves_no_future_open
    test_stop_cancels_async_methods_after_its_time test_a_dropped_handle_lets_its_accepted_calls_finish
    test_a_dropped_handle_lets_calls_finish_that_wait_for_arguments
    test_a_dropped_handle_ends_also_where_warnings_are_errors test_one_kept_function_keeps_the_worker
    test_in_one_line test_what_runs_and_what_waits test_plain_methods_do_not_block_async_ones
    test_a_call_past_its_time_fails test_an_async_call_past_its_time_is_ended
    test_calls_that_wait_behind_stuck_ones_are_given_up test_stop_leaves_a_wait_between_attempts
    test_by_method_it_holds_for_these_only test_cancelled_calls_let_their_arguments_go
    test_a_call_past_its_time_takes_no_limit test_stop_ends_calls_that_wait_for_limits
    test_what_stop_gives_up_has_failed test_a_running_async_call_that_is_cancelled_counts_once
    test_a_call_past_its_time_has_failed test_an_async_call_past_its_time_has_failed
    test_retries_of_a_call_past_its_time_are_counted
    test_a_call_given_up_names_the_option_that_holds
    test_stop_ends_calls_between_two_attempts test_the_only_actor_is_not_kept_by_its_own_full_mailbox
"""
_OF_DEATHS = """
    test_a_lost_call_has_failed test_a_lost_call_that_waits_for_its_next_attempt test_no_figure_falls_over_deaths
    test_a_lost_call_that_is_cancelled_has_failed
"""
SKIPS: dict[str, dict[str, str]] = {  # test: {way: why it has no meaning there}
    **dict.fromkeys(_NO_WAITING.split(), _DIRECT),
    **dict.fromkeys(_OF_DEATHS.split(), _DIES_NOT),
    "test_retries_before_and_after_a_death_are_counted": {**_DIES_NOT, **_UNTOLD},
    "test_state_stays_in_the_actor": _SHARED,
    "test_an_actor_keeps_one_loop": _SHARED,
    "test_many_async_methods_run_together": {
        "pool": "they meet in one object, and each actor has its own",
        "process-pool": "they meet in one object, and each actor has its own",
        "ray-pool": "they meet in one object, and each actor has its own",
        "demand": "they meet in one object, and each call has its own",
    },
    "test_plain_methods_do_not_block_async_ones": {
        **_DIRECT,
        "thread": "one call at a time, of whatever kind",
        "process": "one call at a time, of whatever kind",
        "ray": "one call at a time, of whatever kind",
    },
    "test_a_base_exception_ends_its_call_only": _CAUGHT,
    "test_a_base_exception_that_misbehaves_ends_its_call_only": _CAUGHT,
    "test_other_base_exceptions_come_wrapped": _CAUGHT,
    "test_calls_of_one_thread_run_in_their_order": _UNORDERED,
    "test_async_calls_of_one_thread_start_in_their_order": {
        way: why
        for way, why in _UNORDERED.items()
        if "concurrent" not in way  # its async methods share one loop
    },
    "test_eight_threads_keep_each_its_own_order": _UNORDERED,
}


def skipped(test: str, way: str) -> str | None:
    """Why a test is left out in this way, or None."""
    return SKIPS.get(test, {}).get(way)


@pytest.fixture(scope="package", autouse=True)
def quick_collections() -> Iterator[None]:
    """What stands already, pytest's own and the libraries', is not looked through again at each `gc.collect()`."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray, where it is tested, runs before anything is looked at."""
    if WITH_RAY:
        request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    """The helper that starts processes is started once for all these tests, and not anew for each."""
    from concurry.transports import hub, nursery

    retained = hub.retain()

    class First(Worker):
        """Its process brings up what is started by the first one only."""

    with pytest.MonkeyPatch.context() as patch:  # what the test modules import takes longer than all the rest
        patch.setattr(nursery, "_PRELOADED", (*nursery._PRELOADED, "pytest", "pydantic"))
        First.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that asks for a way runs once for each that its file is for."""
    if "way" in metafunc.fixturenames:
        file = metafunc.module.__name__.rpartition(".")[2]  # pyright: ignore[reportOptionalMemberAccess]
        ways = [way for way in WAYS if (way.files is None or file in way.files) and (WITH_RAY or not way.needs_ray)]
        metafunc.parametrize("way", ways, ids=[way.name for way in ways], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Way:
    """The way in which this test runs its workers."""
    found: Way = request.param
    reason = skipped(request.node.originalname, found.name)
    if reason is not None:
        pytest.skip(f"{found.name}: {reason}")
    return found


@dataclass(frozen=True)
class Table:
    """What is left out, and the names of the ways."""

    skips: dict[str, dict[str, str]]
    ways: frozenset[str]


@pytest.fixture
def table() -> Table:
    """For the test of the table itself."""
    return Table(SKIPS, frozenset(way.name for way in WAYS))


class Signals:
    """Makes signals, and sets them all at the end, so that no call waits on after its test."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def __call__(self) -> Any:
        self._made.append(self._make())
        return self._made[-1]

    def set_all(self) -> None:
        for signal in self._made:
            signal.set()

    def close(self) -> None:
        while self._made:
            self._made.pop().close()


@pytest.fixture
def new_signal(request: pytest.FixtureRequest) -> Iterator[Signals]:
    """`new_signal()` makes a signal for this test and its workers."""
    make = request.getfixturevalue("way").signals if "way" in request.fixturenames else Signal
    signals = Signals(make)
    yield signals
    signals.close()


@pytest.fixture
def new_log(way: Way) -> Iterator[Callable[[], Any]]:
    """`new_log()` makes a list for this test, to which its workers append what they do."""
    made: list[Any] = []

    def make() -> Any:
        made.append(way.logs())
        return made[-1]

    yield make
    for log in made:
        if isinstance(log, FileLog):
            log.close()


@pytest.fixture
def new_meeting(new_log: Callable[[], Any], new_signal: Signals) -> Callable[[int], Meeting]:
    """`new_meeting(number)`: where so many calls wait for each other."""
    return lambda number: Meeting(number, new_log(), new_signal())


@pytest.fixture
def start(way: Way, new_signal: Signals) -> Iterator[Callable[..., Any]]:
    """`start(cls, *args, options={...}, **kwargs)`: a worker in the way of this test, stopped when the test is over."""
    started: list[Any] = []

    def start_worker(cls: Any, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        handle = cls.options(**{**way.options, **(options or {})}).init(*args, **kwargs)
        started.append(handle)
        return handle

    yield start_worker
    new_signal.set_all()
    while started:
        started.pop().stop(timeout=3)
