"""`global_config`, `temp_config`, and what the face makes of them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import sys
import threading
from typing import Any

import pytest

from concurry.config import global_config, layers, setting, temp_config
from concurry.options import CONFIGURATION_ONLY, IGNORED, KNOWN, Options, defaults_for
from concurry.runtime.enums import ExecutionMode, LoadBalancingAlgorithm, RateLimitAlgorithm
from concurry.settings import SETTINGS

MODES = [mode for mode in ExecutionMode if mode is not ExecutionMode.Auto]


def resolve(**given: Any) -> Options:
    """What a worker gets that says this in `.options(...)`."""
    return Options.resolve([given, *layers()], worker="W")


# -- assigning -----------------------------------------------------------------------------------------------------


def test_what_is_assigned_is_in_force() -> None:
    global_config.defaults.num_retries = 3
    global_config.thread.max_workers = 8
    assert (global_config.defaults.num_retries, global_config.thread.max_workers) == (3, 8)
    assert (resolve(mode="thread").num_retries, resolve(mode="thread").max_workers) == (3, 8)
    assert (resolve(mode="process").num_retries, resolve(mode="process").max_workers) == (3, 1)


def test_a_mode_goes_before_all_modes() -> None:
    global_config.defaults.num_retries = 3
    global_config.thread.num_retries = 5
    assert (resolve(mode="thread").num_retries, resolve(mode="sync").num_retries) == (5, 3)
    assert (global_config.thread.num_retries, global_config.sync.num_retries) == (5, 3)


def test_whatever_is_said_of_the_worker_goes_first() -> None:
    global_config.thread.num_retries = 5
    assert resolve(mode="thread", num_retries=1).num_retries == 1


def test_the_mode_itself() -> None:
    assert global_config.defaults.mode is None
    global_config.defaults.mode = "Thread"
    assert resolve().mode is ExecutionMode.Threads
    with pytest.raises(AttributeError, match=r"has no 'mode'; the mode is chosen by global_config\.defaults\.mode"):
        global_config.thread.mode = "thread"


def test_values_are_kept_in_their_final_form() -> None:
    global_config.defaults.load_balancing = "rr"
    global_config.defaults.blocking = "true"
    global_config.defaults.stop_timeout = None
    assert global_config.defaults.load_balancing is LoadBalancingAlgorithm.RoundRobin
    assert global_config.defaults.blocking is True
    assert global_config.defaults.stop_timeout == math.inf


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("defaults", "num_retries", -1),
        ("defaults", "load_balancing", "rrr"),
        ("thread", "max_workers", "many"),
        ("thread", "max_workers", 0),
        ("sync", "max_workers", 2),
        ("asyncio", "max_workers", 2),
        ("sync", "on_demand", True),
        ("defaults", "progress_bar_ncols", -1),
        ("defaults", "progress_bar_smoothing", 1.5),
        ("defaults", "progress_bar_miniters", "x"),
        ("defaults", "rate_limit_algorithm", "x"),
        ("defaults", "limit_pool_load_balancing", "x"),
        ("thread", "task_decorator_on_demand", "maybe"),
    ],
)
def test_a_bad_value_is_refused_at_its_line(section: str, name: str, value: Any) -> None:
    if (section, name, value) != ("thread", "max_workers", 0):  # with on_demand it means no bound
        with pytest.raises(
            ValueError, match=rf"(global_config\.{section}\.{name}|{name}={value!r} \(from global_config)"
        ):
            setattr(getattr(global_config, section), name, value)
        key = f"{'global' if section == 'defaults' else section}_{name}"
        with pytest.raises(ValueError, match=rf"temp_config\({key}"):
            temp_config(**{key: value})
    assert layers()[1] == {}


@pytest.mark.parametrize(("name", "near"), [("max_worker", "max_workers"), ("progress_bar_cols", "progress_bar_ncols")])
def test_an_unknown_name_names_the_nearest(name: str, near: str) -> None:
    section = global_config.thread
    for act in (lambda: setattr(section, name, 1), lambda: getattr(section, name), lambda: delattr(section, name)):
        with pytest.raises(AttributeError, match=rf"global_config\.thread has no '{name}'; did you mean '{near}'"):
            act()


def test_sections_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError, match=r"cannot be replaced; assign its parts"):
        global_config.thread = 3  # type: ignore[assignment]
    with pytest.raises(AttributeError, match=r"assign global_config\.defaults\.num_retries"):
        global_config.num_retries = 3


def test_taking_back() -> None:
    thread = global_config.thread
    thread.max_workers = 4
    thread.num_retries = 4
    thread.mailbox_size = 4
    global_config.defaults.mailbox_size = 9
    thread.max_workers = None  # None is no value of it: nothing is said
    del thread.num_retries
    thread.mailbox_size = None  # None is one: no bound
    assert (thread.max_workers, thread.num_retries, thread.mailbox_size) == (1, 0, None)
    del thread.mailbox_size
    del thread.mailbox_size
    assert thread.mailbox_size == 9


def test_reset_takes_everything_back() -> None:
    global_config.defaults.num_retries = 3
    global_config.ray.num_cpus = 2
    global_config.reset_to_defaults()
    for mode in MODES:
        assert resolve(mode=mode) == Options.resolve([{"mode": mode}], worker="W")


def test_what_a_mode_cannot_have_is_passed_over_where_it_is_said_of_all() -> None:
    global_config.defaults.max_workers = 4
    assert [resolve(mode=mode).max_workers for mode in MODES] == [1, 1, 4, 4, 4]
    assert (global_config.sync.max_workers, global_config.thread.max_workers) == (1, 4)


@pytest.mark.parametrize("mode", MODES)
def test_unsaid_everything_is_the_built_in_default(mode: ExecutionMode) -> None:
    section = getattr(global_config, mode.value)
    assert {name: getattr(section, name) for name in defaults_for(mode)} == defaults_for(mode)
    resolved = global_config.get_defaults(mode)
    for name in (*Options.resolve([{"mode": mode}], worker="W").values, *SETTINGS):
        assert resolved[name] == getattr(resolved, name)
        assert name == "mode" or resolved[name] == getattr(section, name)


def test_get_defaults_is_resolved_and_fixed() -> None:
    global_config.defaults.num_retries = 3
    global_config.thread.max_workers = 8
    resolved = global_config.get_defaults(ExecutionMode.Threads)
    assert (resolved.num_retries, resolved.max_workers, resolved.mode) == (3, 8, ExecutionMode.Threads)
    assert resolved.progress_bar_ncols == 100
    assert global_config.get_defaults("procs").max_queued_tasks == 100
    assert global_config.get_defaults("ray").num_cpus == 1
    global_config.thread.max_workers = 9
    assert resolved["max_workers"] == 8
    assert "max_workers" in resolved
    assert dict(resolved)["num_retries"] == 3
    with pytest.raises(AttributeError, match="did you mean 'max_workers'"):
        _ = resolved.max_worker
    with pytest.raises(AttributeError):
        resolved.max_workers = 3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'auto' goes by a class's methods"):
        global_config.get_defaults("auto")
    with pytest.raises(ValueError, match="Could not find enum with value"):
        global_config.get_defaults("threed")


@pytest.mark.parametrize("pattern", IGNORED)
def test_names_that_belong_to_polling_are_taken_and_ignored(pattern: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "concurry")
    name = pattern.replace("*", "some")
    assert getattr(global_config.thread, name) is None
    setattr(global_config.thread, name, 0.5)
    assert getattr(global_config.thread, name) == 0.5
    with temp_config(**{f"global_{name}": 7}):
        assert getattr(global_config.defaults, name) == 7
        assert len(resolve(mode="thread").given) == 1
    delattr(global_config.thread, name)
    assert getattr(global_config.thread, name) is None
    assert [name in it.getMessage() for it in caplog.records] == [True, True]


def test_names_are_listed_and_shown() -> None:
    assert {*KNOWN, *CONFIGURATION_ONLY} <= set(dir(global_config.defaults))
    assert "mode" not in dir(global_config.thread)
    global_config.thread.max_workers = 3
    assert repr(global_config.thread) == "<global_config.thread: max_workers=3>"
    assert repr(global_config.sync) == "<global_config.sync: nothing said>"
    assert repr(global_config) == "<global_config thread: {'max_workers': 3}>"


# -- temp_config ---------------------------------------------------------------------------------------------------


def test_it_holds_in_its_block() -> None:
    global_config.thread.num_retries = 1
    with temp_config(thread_max_workers=100, global_num_retries=3) as inside:
        assert inside is global_config
        assert resolve(mode="thread").max_workers == 100
        # as if they were assigned: what is said of the mode still goes first
        assert (resolve(mode="thread").num_retries, resolve(mode="sync").num_retries) == (1, 3)
        assert global_config.thread.max_workers == 100
    assert (resolve(mode="thread").max_workers, resolve(mode="sync").num_retries) == (1, 0)


def test_it_nests() -> None:
    with temp_config(thread_max_workers=2, thread_num_retries=2):
        with temp_config(thread_max_workers=3, process_max_workers=4):
            assert (global_config.thread.max_workers, global_config.thread.num_retries) == (3, 2)
            assert global_config.process.max_workers == 4
        assert (global_config.thread.max_workers, global_config.process.max_workers) == (2, 1)
    assert global_config.thread.max_workers == 1


def test_it_is_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), temp_config(thread_max_workers=2):
        raise KeyError
    assert global_config.thread.max_workers == 1


def test_one_may_be_entered_again() -> None:
    many = temp_config(thread_max_workers=2)
    with many, many:
        assert global_config.thread.max_workers == 2
    assert global_config.thread.max_workers == 1
    with many:
        assert global_config.thread.max_workers == 2


def test_one_may_be_entered_by_several_threads_at_the_same_time() -> None:
    many = temp_config(thread_max_workers=2)
    both_in, first_out = threading.Barrier(2), threading.Event()
    seen: list[int] = []

    def use(first: bool) -> None:
        with many:
            both_in.wait()
            if not first:
                first_out.wait()
            seen.append(global_config.thread.max_workers)
        seen.append(global_config.thread.max_workers)
        first_out.set()

    threads = [threading.Thread(target=use, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [2, 1, 2, 1]


def test_assigning_inside_stays_beneath_and_lasts() -> None:
    with temp_config(thread_max_workers=2):
        global_config.thread.max_workers = 5
        global_config.thread.num_retries = 6
        assert (global_config.thread.max_workers, global_config.thread.num_retries) == (2, 6)
        global_config.reset_to_defaults()
        assert (global_config.thread.max_workers, global_config.thread.num_retries) == (2, 0)
        global_config.thread.max_workers = 5
    assert global_config.thread.max_workers == 5


def test_none_says_nothing_where_it_is_no_value() -> None:
    global_config.thread.max_workers = 5
    with temp_config(thread_max_workers=None, thread_mailbox_size=None):
        assert (global_config.thread.max_workers, global_config.thread.mailbox_size) == (5, None)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("threads_max_workers", "Invalid mode 'threads'"),
        ("num_retries", "Invalid mode 'num'; say global_num_retries"),
        ("thread", "Invalid attribute ''"),
        ("auto_max_workers", "Invalid mode 'auto'"),
        ("thread_max_worker", "Invalid attribute 'max_worker'; did you mean 'max_workers'"),
        ("global_nonsense", "Invalid attribute 'nonsense'; there are "),
        ("thread_mode", "Invalid attribute 'mode'; the mode is chosen by"),
        ("defaults_num_retries", "Invalid mode 'defaults'"),
    ],
)
def test_unknown_keys(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        temp_config(**{key: 1})


def test_other_threads_do_not_see_it() -> None:
    seen = []
    with temp_config(thread_max_workers=7):
        plain = threading.Thread(target=lambda: seen.append(global_config.thread.max_workers))
        # a thread that is given this context is part of the block
        inner = contextvars.copy_context()
        given = threading.Thread(target=lambda: inner.run(lambda: seen.append(global_config.thread.max_workers)))
        for thread in (plain, given):
            thread.start()
            thread.join()
    expected = 7 if getattr(sys.flags, "thread_inherit_context", 0) else 1  # free-threaded builds choose otherwise
    assert seen == [expected, 7]


def test_tasks_do_not_see_each_others() -> None:
    async def main() -> list[int]:
        entered = asyncio.Event()
        checked = asyncio.Event()

        async def one() -> int:
            with temp_config(thread_max_workers=7):
                entered.set()
                await checked.wait()
                return int(global_config.thread.max_workers)

        async def other() -> int:
            await entered.wait()
            seen = int(global_config.thread.max_workers)
            checked.set()
            return seen

        return list(await asyncio.gather(one(), other()))

    assert asyncio.run(main()) == [7, 1]


def test_many_threads_assign_and_none_is_lost() -> None:
    names = ["num_retries", "max_workers", "max_queued_tasks", "mailbox_size", "max_restarts", "restart_window"]
    start = threading.Barrier(len(names))

    def assign(name: str) -> None:
        start.wait()
        for value in range(1, 200):
            setattr(global_config.thread, name, value)

    threads = [threading.Thread(target=assign, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [getattr(global_config.thread, name) for name in names] == [199] * len(names)


# -- the environment, and where things come from -------------------------------------------------------------------


def test_variables_go_before_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_NUM_RETRIES", "9")
    monkeypatch.setenv("CONCURRY_PROGRESS_BAR_NCOLS", "70")
    monkeypatch.setenv("CONCURRY_THREAD_TASK_DECORATOR_ON_DEMAND", "no")
    global_config.thread.num_retries = 1
    with temp_config(thread_num_retries=2, global_progress_bar_ncols=3, thread_task_decorator_on_demand=True):
        assert resolve(mode="thread").num_retries == 9
        assert resolve(mode="thread", num_retries=4).num_retries == 4
        assert setting("progress_bar_ncols") == 70
        assert setting("task_decorator_on_demand", ExecutionMode.Threads) is False
        assert setting("task_decorator_on_demand") is True
    assert global_config.get_defaults("thread").num_retries == 9


def test_a_bad_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_PROGRESS_BAR_NCOLS", "wide")
    with pytest.raises(ValueError, match="CONCURRY_PROGRESS_BAR_NCOLS='wide' is refused: it must be a whole number"):
        setting("progress_bar_ncols")


@pytest.mark.parametrize(("text", "value"), [("none", None), ("", 100), ("80", 80)])
def test_the_text_of_a_setting(monkeypatch: pytest.MonkeyPatch, text: str, value: Any) -> None:
    monkeypatch.setenv("CONCURRY_PROGRESS_BAR_NCOLS", text)
    assert setting("progress_bar_ncols") == value
    monkeypatch.setenv("CONCURRY_PROGRESS_BAR_SMOOTHING", "none")
    assert setting("progress_bar_smoothing") == 0.15  # None is no value of it: nothing is said


def test_settings() -> None:
    assert tuple(SETTINGS) == CONFIGURATION_ONLY
    assert {name: setting(name) for name in SETTINGS} == {
        "rate_limit_algorithm": RateLimitAlgorithm.SlidingWindow,
        "limit_pool_load_balancing": LoadBalancingAlgorithm.RoundRobin,
        "task_decorator_on_demand": True,
        "load_balancing_on_demand": LoadBalancingAlgorithm.Random,
        "progress_bar_ncols": 100,
        "progress_bar_smoothing": 0.15,
        "progress_bar_miniters": 1,
    }
    global_config.thread.rate_limit_algorithm = "gcra"
    assert setting("rate_limit_algorithm") is RateLimitAlgorithm.SlidingWindow
    assert setting("rate_limit_algorithm", ExecutionMode.Threads) is RateLimitAlgorithm.GCRA
    with pytest.raises(KeyError, match="there are rate_limit_algorithm"):
        setting("num_retries")


def test_load_balancing_of_pools_on_demand_is_said_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    global_config.defaults.load_balancing = "least_active"
    assert resolve(mode="thread").load_balancing is LoadBalancingAlgorithm.LeastActiveLoad
    assert resolve(mode="thread", on_demand=True).load_balancing is LoadBalancingAlgorithm.Random
    global_config.defaults.load_balancing_on_demand = "least_total"
    assert resolve(mode="thread").load_balancing is LoadBalancingAlgorithm.LeastActiveLoad
    assert resolve(mode="thread", on_demand=True).load_balancing is LoadBalancingAlgorithm.LeastTotalLoad
    monkeypatch.setenv("CONCURRY_PROCESS_LOAD_BALANCING_ON_DEMAND", "rr")
    assert resolve(mode="thread", on_demand=True).load_balancing is LoadBalancingAlgorithm.LeastTotalLoad
    assert resolve(mode="process", on_demand=True).load_balancing is LoadBalancingAlgorithm.RoundRobin
    monkeypatch.setenv("CONCURRY_LOAD_BALANCING_ON_DEMAND", "random")
    assert resolve(mode="thread", on_demand=True).load_balancing is LoadBalancingAlgorithm.Random
    said = resolve(mode="thread", on_demand=True, load_balancing="rr")
    assert said.load_balancing is LoadBalancingAlgorithm.RoundRobin
    monkeypatch.setenv("CONCURRY_LOAD_BALANCING_ON_DEMAND", "x")
    with pytest.raises(ValueError, match="CONCURRY_LOAD_BALANCING_ON_DEMAND"):
        resolve(mode="thread", on_demand=True)


def test_the_places_are_named() -> None:
    global_config.thread.num_retries = 1
    with temp_config(thread_max_workers=3, global_blocking=True):
        layer = layers()[1]
        assert layer.origin("num_retries", ExecutionMode.Threads) == "global_config.thread.num_retries"
        assert layer.origin("max_workers", ExecutionMode.Threads) == "temp_config(thread_max_workers=...)"
        assert layer.origin("blocking", None) == "temp_config(global_blocking=...)"
        assert layer.origin("num_retries", None) == "global_config.defaults.num_retries"
