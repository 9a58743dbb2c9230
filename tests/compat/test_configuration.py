"""The configuration: `global_config`, `temp_config`, the variables, and the names that nothing reads any more."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from concurry import (
    CallLimit,
    ExecutionMode,
    LimitPool,
    LimitSet,
    LoadBalancingAlgorithm,
    RateLimitAlgorithm,
    Worker,
    global_config,
    temp_config,
)

Logged = Callable[[int], list[str]]
SECTIONS = ["defaults", "sync", "thread", "process", "asyncio", "ray"]
IGNORED = [  # a member of each group of names of the older interface that belonged to polling
    *("polling_fixed_interval", "polling_adaptive_min_interval", "polling_exponential_max_interval"),
    *("asyncio_future_poll_interval", "async_wait_poll_interval", "async_gather_poll_interval"),
    *("ray_monitor_sleep", "ray_monitor_no_futures_sleep", "rate_limiter_min_wait_time", "limit_set_acquire_sleep"),
    *("worker_pool_cleanup_sleep", "worker_command_queue_timeout", "worker_result_queue_timeout"),
    *("worker_stop_timeout", "worker_init_timeout", "worker_thread_cleanup_timeout"),
    *("pool_on_demand_cleanup_timeout", "pool_on_demand_slot_max_wait"),
]


class Plain(Worker):
    def ping(self) -> str:
        return "pong"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_sections(section: str) -> None:
    part = getattr(global_config, section)
    part.num_retries = 3
    assert part.num_retries == 3


@pytest.mark.parametrize("mode", [it for it in ExecutionMode if it is not ExecutionMode.Auto])
def test_get_defaults_is_resolved(mode: ExecutionMode) -> None:
    global_config.defaults.num_retries = 3
    resolved = global_config.get_defaults(mode)
    assert resolved.num_retries == 3
    assert resolved.retry_wait == 1.0
    assert resolved.blocking is False


def test_what_is_said_of_a_mode_goes_before_what_is_said_of_all() -> None:
    global_config.defaults.num_retries = 3
    global_config.thread.num_retries = 5
    assert global_config.get_defaults(ExecutionMode.Threads).num_retries == 5
    assert global_config.get_defaults(ExecutionMode.Processes).num_retries == 3


def test_reset_to_defaults() -> None:
    global_config.thread.max_workers = 9
    global_config.defaults.num_retries = 9
    global_config.reset_to_defaults()
    assert (global_config.thread.max_workers, global_config.defaults.num_retries) == (1, 0)


def test_an_assignment_is_checked() -> None:
    with pytest.raises(ValueError, match="num_retries"):
        global_config.thread.num_retries = -1
    with pytest.raises(AttributeError, match="did you mean 'num_retries'"):
        global_config.thread.num_retrys = 1


def test_temp_config() -> None:
    with temp_config(global_num_retries=3, thread_max_workers=100):
        assert global_config.get_defaults(ExecutionMode.Threads).max_workers == 100
        assert global_config.get_defaults(ExecutionMode.Sync).num_retries == 3
        with temp_config(thread_max_workers=7):
            assert global_config.thread.max_workers == 7
        assert global_config.thread.max_workers == 100
    assert global_config.thread.max_workers == 1


def test_temp_config_is_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), temp_config(thread_max_workers=100):
        raise KeyError
    assert global_config.thread.max_workers == 1


def test_temp_config_of_a_mode_that_is_none() -> None:
    with pytest.raises(ValueError, match="Invalid mode"), temp_config(threed_max_workers=1):
        pass


def test_temp_config_of_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="Invalid attribute"), temp_config(thread_max_worker=1):
        pass


def test_a_worker_takes_its_options_from_it() -> None:
    with temp_config(global_mode="thread", thread_max_workers=3, thread_blocking=True):
        pool = Plain.init()
    with pool:
        answer: Any = pool.ping()
        assert (pool.mode, len(pool), answer) == (ExecutionMode.Threads, 3, "pong")


NAMES = [  # the names with meaning that are no options of api.md's table
    ("stop_timeout", 5),
    ("rate_limit_algorithm", RateLimitAlgorithm.GCRA),
    ("limit_pool_load_balancing", LoadBalancingAlgorithm.Random),
    ("task_decorator_on_demand", False),
    ("load_balancing_on_demand", LoadBalancingAlgorithm.LeastTotalLoad),
    ("progress_bar_ncols", 80),
    ("progress_bar_smoothing", 0.5),
    ("progress_bar_miniters", 3),
]


@pytest.mark.parametrize(("name", "value"), NAMES)
def test_names_with_meaning(name: str, value: Any) -> None:
    setattr(global_config.defaults, name, value)
    assert getattr(global_config.get_defaults(ExecutionMode.Threads), name) == value
    with temp_config(**{f"global_{name}": value}):
        assert getattr(global_config.thread, name) == value


OPTIONS = """
    mode max_workers max_concurrency blocking load_balancing on_demand max_queued_tasks mailbox_size on_full
    unwrap_futures limits num_retries retry_on retry_algorithm retry_wait retry_jitter retry_until retry_config
    max_restarts restart_window call_timeout stop_timeout init_timeout exit_timeout mp_context
    num_cpus num_gpus memory resources runtime_env scheduling_strategy namespace name lifetime
"""


@pytest.mark.parametrize("name", OPTIONS.split())
def test_every_option_is_a_name_of_the_configuration(name: str) -> None:
    assert name in dir(global_config.defaults)
    getattr(global_config.defaults, name)


def test_the_algorithm_of_limits() -> None:
    with temp_config(global_rate_limit_algorithm="gcra"):
        assert CallLimit(window=1, capacity=1).algorithm is RateLimitAlgorithm.GCRA


def test_the_load_balancing_of_limit_pools() -> None:
    with temp_config(global_limit_pool_load_balancing="random"):
        assert LimitPool([LimitSet()]).load_balancing is LoadBalancingAlgorithm.Random


def test_the_load_balancing_of_pools_on_demand() -> None:
    with temp_config(global_load_balancing_on_demand="least_active"):
        pool = Plain.options(mode="thread", on_demand=True).init()
    with pool:
        assert pool.get_pool_stats()["load_balancer"]["algorithm"] == "LeastActiveLoad"


# -- what is ignored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("section", ["defaults", "thread"])
def test_ignored_names_are_assigned(name: str, section: str, logged: Logged) -> None:
    setattr(getattr(global_config, section), name, 0.01)
    (said,) = logged(logging.DEBUG)
    assert name in said
    assert getattr(getattr(global_config, section), name) == 0.01


@pytest.mark.parametrize("name", IGNORED)
def test_ignored_names_in_temp_config(name: str, logged: Logged) -> None:
    with temp_config(**{f"global_{name}": 0.01, f"thread_{name}": 0.02}):
        assert len(logged(logging.DEBUG)) == 2


@pytest.mark.parametrize("name", IGNORED)
def test_ignored_names_in_options(name: str, logged: Logged) -> None:
    given: Any = {"mode": "sync", name: 0.01}
    with Plain.options(**given).init() as it:
        assert it.ping().result() == "pong"
    assert any(name in said for said in logged(logging.DEBUG))


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("prefix", ["CONCURRY_", "CONCURRY_THREAD_"])
def test_ignored_names_in_variables(name: str, prefix: str, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setenv(prefix + name.upper(), "0.01")
    with Plain.options(mode="sync").init() as it:
        assert it.ping().result() == "pong"
    assert logged(logging.WARNING) == []


# -- variables --------------------------------------------------------------------------------------------------------


def test_variables_go_before_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_MODE", "thread")
    monkeypatch.setenv("CONCURRY_THREAD_MAX_WORKERS", "2")
    monkeypatch.setenv("CONCURRY_BLOCKING", "true")
    global_config.thread.max_workers = 5
    with Plain.init() as pool:
        answer: Any = pool.ping()
        assert (pool.mode, len(pool), answer) == (ExecutionMode.Threads, 2, "pong")
    with Plain.options(max_workers=3).init() as pool:
        assert len(pool) == 3


def test_the_command_prints_what_is_in_force_and_where_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_THREAD_MAX_WORKERS", "8")
    done = subprocess.run(
        [sys.executable, "-m", "concurry", "config"], capture_output=True, text=True, check=True, timeout=60
    )
    line = next(it for it in done.stdout.splitlines() if "CONCURRY_THREAD_MAX_WORKERS" in it)
    assert "thread" in line
    assert "8" in line.split()
