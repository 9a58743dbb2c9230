"""Every option of the table: its default in each mode, what it takes, what it refuses, and in which words."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import pytest

from concurry import Executor, TaskWorker, Worker, option_hints, task, worker
from concurry.option_ray import RAY
from concurry.option_types import OptionArgs
from concurry.options import (
    CONFIGURATION_ONLY,
    IGNORED,
    KNOWN,
    TABLE,
    Options,
    check,
    check_one,
    defaults_for,
)
from concurry.runtime.enums import ExecutionMode, LoadBalancingAlgorithm, RetryAlgorithm

MODES = [mode for mode in ExecutionMode if mode is not ExecutionMode.Auto]


class Expected(NamedTuple):
    """One row of api.md. `good`: what is said, and what it becomes."""

    default: Any
    good: list[tuple[Any, Any]]
    bad: list[Any]
    per: dict[str, Any] = {}  # noqa: RUF012 - never changed


NO_NUMBERS = ["x", "", [], object(), math.nan, True, np.True_, 10**5000]
NO_COUNTS = [*NO_NUMBERS[:-1], -1, 1.5, math.inf, "1.5"]
FLAGS = [(True, True), ("true", True), ("False", False), (" ON ", True), ("0", False), (1, True), (np.False_, False)]
NO_FLAGS = ["x", "", 2, -1, [], 0.5]

EXPECTED: dict[str, Expected] = {
    "max_workers": Expected(1, [(7, 7), ("4", 4), (3.0, 3), (np.int64(5), 5)], NO_COUNTS, {"ray": 0}),
    "max_concurrency": Expected(1, [(7, 7), ("4", 4)], [*NO_COUNTS, 0], {"asyncio": 1000}),
    "blocking": Expected(False, FLAGS, NO_FLAGS),
    "load_balancing": Expected(
        LoadBalancingAlgorithm.RoundRobin,
        [
            ("active", LoadBalancingAlgorithm.LeastActiveLoad),
            ("Total", LoadBalancingAlgorithm.LeastTotalLoad),
            (LoadBalancingAlgorithm.Random, LoadBalancingAlgorithm.Random),
        ],
        ["fastest", 3, [], True],
    ),
    "on_demand": Expected(False, FLAGS, NO_FLAGS),
    "max_queued_tasks": Expected(None, [(None, None), (0, 0), ("3", 3)], NO_COUNTS, {"process": 100}),
    "mailbox_size": Expected(None, [(None, None), (1, 1), ("3", 3)], [*NO_COUNTS, 0]),
    "on_full": Expected("block", [("raise", "raise"), ("Block", "block")], ["drop", 1, [], True]),
    "unwrap_futures": Expected(True, FLAGS, NO_FLAGS),
    "limits": Expected(None, [(None, None), ([1], [1])], []),
    "num_retries": Expected(
        0, [(3, 3), ("3", 3), ({"fetch": "2", "*": 1}, {"fetch": 2, "*": 1})], [*NO_COUNTS, {"*": -1}, {1: 1}]
    ),
    "retry_on": Expected([Exception], [(ValueError, ValueError), ({"*": [OSError]}, {"*": [OSError]})], []),
    "retry_algorithm": Expected(
        RetryAlgorithm.Exponential,
        [("linear", RetryAlgorithm.Linear), ({"*": "FIXED"}, {"*": RetryAlgorithm.Fixed})],
        ["sometimes", 2, {"*": "sometimes"}],
    ),
    "retry_wait": Expected(1.0, [(2, 2.0), ("0.5", 0.5), ({"*": 0}, {"*": 0.0})], [*NO_NUMBERS, -1, {"*": -1}]),
    "retry_jitter": Expected(0.3, [(0, 0.0), ("0.5", 0.5), ({"*": 1}, {"*": 1.0})], [*NO_NUMBERS, -0.1]),
    "retry_until": Expected(None, [(None, None), (len, len), ({"*": [len]}, {"*": [len]})], []),
    "retry_config": Expected(None, [(None, None), ("anything", "anything")], []),
    "max_restarts": Expected(3, [(None, None), (0, 0), ("5", 5)], NO_COUNTS),
    "restart_window": Expected(60.0, [(1, 1.0), ("0.5", 0.5), (math.inf, math.inf)], [*NO_NUMBERS, 0, -1]),
    "call_timeout": Expected(
        None,
        [(None, None), (2, 2.0), ("0.5", 0.5), (math.inf, None), ({"a": 1, "*": None}, {"a": 1.0, "*": None})],
        [*NO_NUMBERS, 0, -1, {"a": 0}, {2: 1}],
    ),
    "stop_timeout": Expected(30.0, [(0, 0.0), (None, math.inf), (Decimal("1.5"), 1.5)], [*NO_NUMBERS, -1]),
    "init_timeout": Expected(60.0, [(0.1, 0.1), (None, math.inf), (np.float32(2), 2.0)], [*NO_NUMBERS, 0, -1]),
    "exit_timeout": Expected(2.0, [(0, 0.0), (None, math.inf), ("3", 3.0)], [*NO_NUMBERS, -1]),
    "mp_context": Expected("forkserver", [("spawn", "spawn"), ("FORK", "fork")], ["thread", 1, [], True]),
    "limit_native_threads": Expected(True, FLAGS, NO_FLAGS),
    "shared_memory_threshold": Expected(256 * 1024, [(None, None), (1, 1), ("3", 3)], [*NO_COUNTS, 0]),
    "writable_arrays": Expected(False, FLAGS, NO_FLAGS),
    "max_calls_per_worker": Expected(None, [(None, None), (1, 1), ("3", 3)], [*NO_COUNTS, 0]),
    "max_memory_per_worker": Expected(None, [(None, None), (1, 1), ("3", 3)], [*NO_COUNTS, 0]),
}


def resolve(*layers: dict[str, Any], mode: Any = "thread", **more: Any) -> Options:
    return Options.resolve([*layers, {"mode": mode}], worker="LLM", **more)


# -- the table ----------------------------------------------------------------------------------------------------


def test_the_table_is_the_one_of_the_interface() -> None:
    assert set(TABLE) == {*EXPECTED, "mode"}
    assert not set(TABLE) & set(RAY)


def test_editors_know_exactly_the_options_there_are() -> None:
    assert set(OptionArgs.__annotations__) == set(KNOWN)
    assert not OptionArgs.__required_keys__


def test_what_editors_show_for_an_option_is_a_type() -> None:
    # the names of limits and retries are for type checkers only
    names: dict[str, Any] = dict.fromkeys(("Limit", "LimitSet", "LimitPool", "RetryConfig"), Any)
    assert set(get_type_hints(OptionArgs, localns=names)) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_every_option_says_what_it_means_and_what_it_takes(name: str) -> None:
    option = KNOWN[name]
    assert option.name == name
    assert option.doc
    assert option.allowed


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", EXPECTED)
def test_default(name: str, mode: ExecutionMode) -> None:
    expected = EXPECTED[name].per.get(mode.value, EXPECTED[name].default)
    assert getattr(resolve(mode=mode), name) == expected
    assert defaults_for(mode)[name] == expected


def test_a_default_list_is_nobodys_else() -> None:
    resolve().retry_on.append(KeyError)
    assert resolve().retry_on == [Exception]


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(name, entry, id=f"{name}-{number}")
        for name, expected in EXPECTED.items()
        for number, entry in enumerate(getattr(expected, kind))
    ]


@pytest.mark.parametrize(("name", "entry"), cases("good"))
def test_good_value(name: str, entry: tuple[Any, Any]) -> None:
    said, kept = entry
    result = check_one(name, said, worker="LLM")
    assert result == kept
    assert type(result) is type(kept)
    again = check_one(name, result, worker="LLM")
    assert again == result
    assert type(again) is type(result)
    options = resolve({name: said})
    assert getattr(options, name) == kept
    assert options.given[name] == 0


@pytest.mark.parametrize(("name", "value"), cases("bad"))
def test_bad_value_names_worker_option_and_what_is_allowed(name: str, value: Any) -> None:
    def refused(act: Any) -> None:
        with pytest.raises(ValueError, match=r".") as caught:
            act()
        message = str(caught.value)
        assert message.startswith(f"LLM: {name}=")
        assert KNOWN[name].allowed in message
        assert len(message) < 400

    refused(lambda: check_one(name, value, worker="LLM"))
    refused(lambda: check({name: value}, worker="LLM"))
    refused(lambda: resolve({name: value}))


def test_a_bad_value_is_shown_short() -> None:
    with pytest.raises(ValueError, match=r"^LLM: max_workers='many' is refused: it must be a whole number, 0 or more"):
        check_one("max_workers", "many", worker="LLM")
    with pytest.raises(ValueError, match="entry for 'fetch'"):
        check_one("call_timeout", {"fetch": -1, "*": 1}, worker="LLM")


@pytest.mark.parametrize("name", [name for name in EXPECTED if not TABLE[name].takes_none])
def test_none_says_nothing_where_it_means_nothing(name: str) -> None:
    said, kept = EXPECTED[name].good[0]
    options = resolve({name: None}, {name: said})
    assert getattr(options, name) == kept
    assert options.given[name] == 1
    options = resolve({name: None})
    assert name not in options.given
    assert getattr(options, name) == EXPECTED[name].default


@pytest.mark.parametrize("name", [name for name in EXPECTED if TABLE[name].takes_none])
def test_none_is_a_value_where_it_means_something(name: str) -> None:
    said = next(said for said, _ in [*EXPECTED[name].good, (5, 5)] if said is not None)
    options = resolve({name: None}, {name: said})
    assert options.given[name] == 0
    assert getattr(options, name) == TABLE[name].check(None)


def test_limits_and_retry_rules_are_passed_on_as_they_are() -> None:
    given = {name: object() for name in ("limits", "retry_on", "retry_until", "retry_config")}
    options = resolve(given)
    for name, value in given.items():
        assert getattr(options, name) is value


# -- the mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("sync", ExecutionMode.Sync),
        ("Synchronous", ExecutionMode.Sync),
        ("THREAD", ExecutionMode.Threads),
        ("threads", ExecutionMode.Threads),
        ("async", ExecutionMode.Asyncio),
        ("procs", ExecutionMode.Processes),
        ("ray", ExecutionMode.Ray),
        (ExecutionMode.Asyncio, ExecutionMode.Asyncio),
    ],
)
def test_mode(said: Any, kept: ExecutionMode) -> None:
    assert resolve(mode=said).mode is kept


@pytest.mark.parametrize("layers", [[], [{}], [{"mode": None}, {"max_workers": 3}]])
def test_no_mode(layers: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"LLM: mode parameter is required.*mode='thread'"):
        Options.resolve(layers, worker="LLM")


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match=r"LLM: mode='thred'.*Could not find enum with value 'thred'.*'thread'"):
        check({"mode": "thred"}, worker="LLM")


def test_auto_is_chosen_by_who_knows_the_class() -> None:
    assert resolve(mode="auto", auto=lambda: ExecutionMode.Asyncio).mode is ExecutionMode.Asyncio
    assert resolve(mode="auto", auto=lambda: ExecutionMode.Asyncio).max_concurrency == 1000
    with pytest.raises(ValueError, match="LLM: mode='auto'"):
        resolve(mode="auto")

    def never() -> ExecutionMode:
        raise AssertionError("the mode was said")

    assert resolve(mode="thread", auto=never).mode is ExecutionMode.Threads


@pytest.mark.parametrize(("mode", "name"), [("sync", "Sync"), ("asyncio", "Asyncio")])
@pytest.mark.parametrize("count", [0, 2, "8"])
def test_max_workers_on_a_single_mode(mode: str, name: str, count: Any) -> None:
    with pytest.raises(ValueError, match=f"LLM: max_workers must be 1 for {name} mode"):
        check({"mode": mode, "max_workers": count}, worker="LLM")  # at the line itself
    with pytest.raises(ValueError, match=f"LLM: max_workers must be 1 for {name} mode"):
        resolve({"max_workers": count}, mode=mode)  # from two lines
    assert resolve({"max_workers": 1}, mode=mode).max_workers == 1


@pytest.mark.parametrize(("mode", "name"), [("sync", "Sync"), ("asyncio", "Asyncio")])
def test_on_demand_on_a_single_mode(mode: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"LLM: on_demand mode is not supported for {name}"):
        check({"mode": mode, "on_demand": True}, worker="LLM")
    with pytest.raises(ValueError, match=f"LLM: on_demand mode is not supported for {name}"):
        resolve({"on_demand": True}, mode=mode)
    assert resolve({"on_demand": False}, mode=mode).on_demand is False


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_no_workers_at_all(mode: str) -> None:
    with pytest.raises(ValueError, match=r"LLM: max_workers=0.*on_demand=True"):
        resolve({"max_workers": 0}, mode=mode)
    assert check({"mode": mode, "max_workers": 0}, worker="LLM")["max_workers"] == 0  # on_demand may be said elsewhere
    assert resolve({"max_workers": 0}, {"on_demand": True}, mode=mode).actors == 0


@pytest.mark.parametrize(
    ("mode", "said", "actors", "most", "pooled"),
    [
        ("sync", {}, 1, 1, False),
        ("thread", {}, 1, 1, False),
        ("thread", {"max_workers": 8}, 8, 8, True),
        ("thread", {"max_workers": 8, "on_demand": True}, 0, 8, True),
        ("ray", {}, 1, 1, False),
        ("ray", {"max_workers": 0}, 1, 1, False),
        ("ray", {"max_workers": 2}, 2, 2, True),
        ("ray", {"on_demand": True}, 0, None, True),
    ],
)
def test_how_many_actors(mode: str, said: dict[str, Any], actors: int, most: int | None, pooled: bool) -> None:
    options = resolve(said, mode=mode)
    assert (options.actors, options.most_actors, options.pooled) == (actors, most, pooled)


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_on_demand_without_a_bound_stays_at_the_cores(mode: str) -> None:
    most = resolve({"on_demand": True, "max_workers": 0}, mode=mode).most_actors
    assert most is not None
    assert most >= 1


def test_load_balancing_on_demand() -> None:
    assert resolve({"on_demand": True}).load_balancing is LoadBalancingAlgorithm.Random
    said = {"on_demand": True, "load_balancing": "rr"}
    assert resolve(said).load_balancing is LoadBalancingAlgorithm.RoundRobin


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_changing_the_mode_is_changing_one_word(mode: ExecutionMode, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "concurry")
    said = {"mp_context": "spawn", "max_concurrency": 4, "num_cpus": 2, "actor_options": {"x": 1}, "mailbox_size": 9}
    options = resolve(said, mode=mode)
    assert dict(options.ray) == ({"num_cpus": 2, "num_gpus": 0, "x": 1} if mode is ExecutionMode.Ray else {})
    ignored = {record.getMessage().split()[1] for record in caplog.records if "no meaning" in record.getMessage()}
    expected = set()
    if mode is not ExecutionMode.Processes:
        expected.add("mp_context")
    if mode is not ExecutionMode.Ray:
        expected.add("num_cpus")
    if mode is ExecutionMode.Sync:
        expected |= {"max_concurrency", "mailbox_size"}
    assert ignored == expected
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [("max_worker", "max_workers"), ("retries", "num_retries"), ("num_cpu", "num_cpus"), ("onfull", "on_full")],
)
def test_unknown_option_names_the_nearest(name: str, near: str) -> None:
    acts: list[Any] = [
        lambda: check_one(name, 1, worker="LLM"),
        lambda: check({name: 1}, worker="LLM"),
        lambda: resolve({name: 1}),
    ]
    for act in acts:
        with pytest.raises(TypeError, match=f"LLM: unknown option '{name}'; did you mean '{near}'"):
            act()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *((name, "did you mean 'max_workers'") for name in ("n_jobs", "processes", "nprocs", "n_workers")),
        *((name, "did you mean 'max_calls_per_worker'") for name in ("max_tasks_per_child", "maxtasksperchild")),
        ("backend", "did you mean 'mode'"),
        *((name, r"belongs in the `__init__` of a class \(Worker\)") for name in ("initializer", "initargs")),
        ("thread_name_prefix", "workers, and what logs and errors say of them, are named by their class"),
        ("chunksize", r"said at the call: map\(fn, xs, chunksize=...\)"),
    ],
)
def test_a_name_of_another_library_says_what_to_do_here(name: str, hint: str) -> None:
    class LLM(Worker):
        pass

    given: Any = {name: 1}
    acts: list[Any] = [
        lambda: LLM.options(**given),
        lambda: worker(**given)(LLM),
        lambda: task(**given),
        lambda: Executor(**given),
        lambda: TaskWorker.options(**given),
    ]
    for act in acts:
        with pytest.raises(TypeError, match=f"(LLM|@task|Executor|TaskWorker): unknown option '{name}'; .*{hint}"):
            act()


def test_what_other_libraries_say_leads_to_what_there_is() -> None:
    assert set(option_hints._OTHER_WORDS.values()) <= set(TABLE)
    assert not {*option_hints._OTHER_WORDS, *option_hints._NOT_HERE} & {*KNOWN, *CONFIGURATION_ONLY}


def test_unknown_option_far_from_all_lists_them() -> None:
    with pytest.raises(TypeError, match=r"LLM: unknown option 'zzzz'; there are mode, .*max_workers.*num_gpus"):
        check({"zzzz": 1}, worker="LLM")


@pytest.mark.parametrize("name", [*CONFIGURATION_ONLY, "auto_init"])
def test_names_that_belong_elsewhere(name: str) -> None:
    with pytest.raises(TypeError, match=f"unknown option '{name}'; it (is a setting of|belongs on)"):
        check({name: 1}, worker="LLM")


@pytest.mark.parametrize("pattern", IGNORED)
def test_older_names_are_taken_and_ignored(pattern: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "concurry")
    name = pattern.replace("*", "something")
    assert check({name: object(), "blocking": "true"}, worker="LLM") == {"blocking": True}
    assert resolve({name: object()}) == resolve()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    assert name in caplog.text


def test_no_option_of_ours_looks_like_an_older_name() -> None:
    from fnmatch import fnmatchcase

    assert not [name for name in KNOWN for pattern in IGNORED if fnmatchcase(name, pattern)]


# -- the object ---------------------------------------------------------------------------------------------------


def test_options_are_fixed() -> None:
    options = resolve({"max_workers": 3})
    for name in ("max_workers", "given", "anything"):
        with pytest.raises(AttributeError, match=f"{name} cannot be changed"):
            setattr(options, name, 4)
    with pytest.raises(AttributeError):
        del options.max_workers
    with pytest.raises(TypeError):
        options.values["max_workers"] = 4  # type: ignore[index]
    assert options.max_workers == 3
    assert not hasattr(options, "__dict__")


def test_options_compare_copy_and_travel() -> None:
    options = resolve({"max_workers": 3, "call_timeout": {"a": 1}}, mode="ray")
    assert options == resolve({"max_workers": "3", "call_timeout": {"a": 1.0}}, mode="ray")
    assert options != resolve({"max_workers": 4}, mode="ray")
    assert options != "options"
    for twin in (pickle.loads(pickle.dumps(options)), copy.deepcopy(options)):
        assert twin == options
        assert twin.given == options.given
        assert dict(twin.ray) == {"num_cpus": 1, "num_gpus": 0}


def test_repr_shows_what_was_said() -> None:
    assert repr(resolve({"max_workers": 3})) == "Options(mode='thread', max_workers=3)"
    assert "num_cpus=2" in repr(resolve({"num_cpus": 2}, mode="ray"))


def test_timeout_for() -> None:
    assert resolve().timeout_for("a") is None
    assert resolve({"call_timeout": 3}).timeout_for("a") == 3.0
    by_method = resolve({"call_timeout": {"a": 1, "b": None, "*": 7}})
    assert [by_method.timeout_for(name) for name in "abc"] == [1.0, None, 7.0]
    assert resolve({"call_timeout": {"a": 1}}).timeout_for("b") is None


def test_call_timeout_of_a_method_that_is_not() -> None:
    methods = ["fetch", "parse"]
    assert resolve({"call_timeout": {"fetch": 1, "*": 2}}, methods=methods).timeout_for("parse") == 2.0
    with pytest.raises(ValueError, match=r"LLM: call_timeout names a method 'fetsh'.*did you mean 'fetch'"):
        resolve({"call_timeout": {"fetsh": 1}}, methods=methods)
    with pytest.raises(ValueError, match="it has: fetch, parse"):
        resolve({"call_timeout": {"zzz": 1}}, methods=methods)


def test_importing_the_options_stays_light() -> None:
    heavy = ["pydantic", "asyncio", "difflib", "numpy", "ray", "concurry.option_types"]
    code = f"import sys, concurry.option_layers; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
