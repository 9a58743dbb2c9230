"""Who wins where an option is said in several places, and what the `CONCURRY_*` variables say."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from concurry.option_layers import Layer, environment_layer
from concurry.options import CONFIGURATION_ONLY, KNOWN, Options
from concurry.runtime.enums import ExecutionMode, LoadBalancingAlgorithm, RetryAlgorithm


def resolve(*layers: Any, **more: Any) -> Options:
    return Options.resolve(layers, worker="LLM", **more)


def environment(**variables: str) -> Layer:
    return environment_layer({f"CONCURRY_{name}": text for name, text in variables.items()})


# -- precedence ---------------------------------------------------------------------------------------------------


def test_the_strongest_layer_wins_option_by_option() -> None:
    options = resolve(
        {"max_workers": 2},
        {"max_workers": 3, "num_retries": 3},
        {"mode": "thread", "max_workers": 4, "num_retries": 4, "blocking": True},
        environment(MODE="sync", BLOCKING="false", RETRY_WAIT="7"),
    )
    assert (options.mode, options.max_workers, options.num_retries, options.blocking, options.retry_wait) == (
        ExecutionMode.Threads,
        2,
        3,
        True,
        7.0,
    )
    assert options.given == {"max_workers": 0, "num_retries": 1, "mode": 2, "blocking": 2, "retry_wait": 3}


def test_a_weaker_bad_value_that_nobody_uses_harms_nobody() -> None:
    assert resolve({"mode": "thread", "max_workers": 2}, environment(MAX_WORKERS="many")).max_workers == 2


def test_defaults_may_come_from_elsewhere() -> None:
    seen = []

    def defaults(mode: ExecutionMode, on_demand: bool) -> dict[str, Any]:
        from concurry.options import defaults_for

        seen.append((mode, on_demand))
        least = {"load_balancing": LoadBalancingAlgorithm.LeastActiveLoad} if on_demand else {}
        return {**defaults_for(mode, on_demand), "stop_timeout": 5.0, **least}

    options = resolve({"mode": "thread", "on_demand": True, "exit_timeout": 1}, defaults=defaults)
    assert (options.stop_timeout, options.exit_timeout) == (5.0, 1.0)
    assert options.load_balancing is LoadBalancingAlgorithm.LeastActiveLoad
    assert "stop_timeout" not in options.given
    assert seen[-1] == (ExecutionMode.Threads, True)


def test_a_layer_for_one_mode_goes_before_the_same_for_all() -> None:
    layer = Layer(
        {"num_retries": 1, "retry_wait": 9}, {ExecutionMode.Threads: {"num_retries": 5}}, lambda name, mode: name
    )
    assert resolve({"mode": "thread"}, layer).num_retries == 5
    assert resolve({"mode": "thread"}, layer).retry_wait == 9.0
    assert resolve({"mode": "sync"}, layer).num_retries == 1
    assert resolve({"mode": "thread", "num_retries": 2}, layer).num_retries == 2


# -- the environment ----------------------------------------------------------------------------------------------


def test_the_environment_speaks_text() -> None:
    options = resolve(
        environment(
            MODE="Threads",
            MAX_WORKERS=" 8 ",
            BLOCKING="yes",
            LOAD_BALANCING="ACTIVE",
            MAX_RESTARTS="none",
            STOP_TIMEOUT="None",
            CALL_TIMEOUT='{"fetch": 2, "*": 5}',
            RETRY_ALGORITHM="fibonacci",
            ON_FULL="RAISE",
            EXIT_TIMEOUT="",
        )
    )
    assert options.mode is ExecutionMode.Threads
    assert options.max_workers == 8
    assert options.blocking is True
    assert options.load_balancing is LoadBalancingAlgorithm.LeastActiveLoad
    assert options.max_restarts is None
    assert options.stop_timeout == math.inf
    assert (options.timeout_for("fetch"), options.timeout_for("x")) == (2.0, 5.0)
    assert options.retry_algorithm is RetryAlgorithm.Fibonacci
    assert options.on_full == "raise"
    assert options.exit_timeout == 2.0


def test_the_environment_of_this_process_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_NUM_RETRIES", "4")
    assert environment_layer()["num_retries"] == "4"
    monkeypatch.delenv("CONCURRY_NUM_RETRIES")
    assert "num_retries" not in environment_layer()


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio", "ray"])
def test_the_environment_by_mode(mode: str) -> None:
    layer = environment(**{f"{mode.upper()}_NUM_RETRIES": "4", "NUM_RETRIES": "1"})
    assert resolve({"mode": mode}, layer).num_retries == 4
    for other in {"sync", "thread", "process", "asyncio", "ray"} - {mode}:
        assert resolve({"mode": other}, layer).num_retries == 1


def test_no_option_can_be_taken_for_one_of_a_mode() -> None:
    modes = [mode.value + "_" for mode in ExecutionMode]
    assert not [name for name in KNOWN if name.startswith(tuple(modes))]


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_what_is_said_of_all_workers_is_passed_over_where_it_cannot_be(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "concurry")
    options = resolve({"mode": mode}, environment(MAX_WORKERS="8", ON_DEMAND="true"))
    assert (options.max_workers, options.on_demand) == (1, False)
    assert "CONCURRY_MAX_WORKERS is passed over" in caplog.text
    assert resolve({"mode": "thread"}, environment(MAX_WORKERS="8")).max_workers == 8
    assert resolve({"mode": "thread"}, environment(MAX_WORKERS="0")).max_workers == 1


def test_what_is_said_of_one_mode_is_an_error_where_it_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"max_workers must be 1 for Sync mode.*from CONCURRY_SYNC_MAX_WORKERS"):
        resolve({"mode": "sync"}, environment(SYNC_MAX_WORKERS="8"))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MAX_WORKERS", "many"),
        ("THREAD_MAX_WORKERS", "-1"),
        ("MODE", "thred"),
        ("CALL_TIMEOUT", "{"),
        ("BLOCKING", "perhaps"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str) -> None:
    said = {} if variable == "MODE" else {"mode": "thread"}
    with pytest.raises(ValueError, match=rf"^LLM: \w+='{text}' \(from CONCURRY_{variable}\) is refused"):
        resolve(said, environment(**{variable: text}))


def test_other_variables_break_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "concurry")
    layer = environment_layer(
        {
            "CONCURRY_HOME_OF_SOMETHING_ELSE": "x",
            "CONCURRY_": "x",
            "CONCURRY_THREAD": "x",
            "CONCURRY_THREAD_": "x",
            "MAX_WORKERS": "3",
            "OTHER": "y",
        }
    )
    assert layer == {}
    assert layer.by_mode == {}
    assert caplog.records == []


@pytest.mark.parametrize("name", ["debug", "check_wire", *CONFIGURATION_ONLY])
def test_variables_of_ours_that_are_no_options_cause_no_remark(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "concurry")
    assert environment_layer({f"CONCURRY_{name.upper()}": "1"}) == {}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CONCURRY_MAX_WROKERS", "did you mean CONCURRY_MAX_WORKERS"),
        ("CONCURRY_RETRY_UNTIL", "cannot be written as text"),
        ("CONCURRY_LIMITS", "cannot be written as text"),
        ("CONCURRY_THREAD_MODE", "chosen by CONCURRY_MODE"),
    ],
)
def test_a_slip_of_the_pen_is_warned_of_once(variable: str, hint: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "concurry")
    for _ in range(3):
        assert environment_layer({variable: "1"}) == {}
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "WARNING"
    assert variable in caplog.text
    assert hint in caplog.text


# -- Ray's own ----------------------------------------------------------------------------------------------------


def test_rays_options_are_handed_over_as_they_are() -> None:
    strategy = object()
    said = {"mode": "ray", "num_cpus": 0.5, "scheduling_strategy": strategy, "runtime_env": {"pip": ["x"]}}
    options = resolve(said)
    assert dict(options.ray) == {
        "num_cpus": 0.5,
        "num_gpus": 0,
        "scheduling_strategy": strategy,
        "runtime_env": {"pip": ["x"]},
    }
    assert options.ray["scheduling_strategy"] is strategy
    assert "num_gpus" not in options.given


def test_actor_options_and_the_options_by_themselves() -> None:
    options = resolve(
        {"actor_options": {"num_cpus": 2, "anything_of_rays": 1}, "name": "a"},
        {"mode": "ray", "num_cpus": 3, "num_gpus": 1, "actor_options": {"name": "b", "memory": 5}},
    )
    assert dict(options.ray) == {"num_cpus": 2, "num_gpus": 1, "name": "a", "memory": 5, "anything_of_rays": 1}
    assert {name: options.given[name] for name in ("num_cpus", "num_gpus", "memory")} == {
        "num_cpus": 0,
        "num_gpus": 1,
        "memory": 1,
    }
    within_one = resolve({"mode": "ray", "num_cpus": 3, "actor_options": {"num_cpus": 2}})
    assert within_one.ray["num_cpus"] == 3


def test_what_is_ours_in_meaning_is_ours_in_actor_options_too() -> None:
    said = {"actor_options": {"max_restarts": 7, "max_concurrency": 4}}
    options = resolve({"mode": "ray"}, said)
    assert (options.max_restarts, options.max_concurrency) == (7, 4)
    assert not {"max_restarts", "max_concurrency", "actor_options"} & set(options.ray)
    assert resolve({"mode": "thread"}, said).max_restarts == 3
    with pytest.raises(ValueError, match=r"LLM: max_restarts=-1 \(from actor_options\) is refused"):
        resolve({"mode": "ray", "actor_options": {"max_restarts": -1}})


@pytest.mark.parametrize("value", [3, "x", {1: 2}, ["num_cpus"]])
def test_actor_options_are_a_dict(value: Any) -> None:
    with pytest.raises(ValueError, match=r"LLM: actor_options=.*dict with text as keys"):
        resolve({"mode": "ray", "actor_options": value})


def test_the_environment_for_ray() -> None:
    layer = environment(RAY_NUM_CPUS="0.5", RESOURCES='{"tpu": 1}', NAMESPACE="mine", RAY_ACTOR_OPTIONS='{"x": 1}')
    options = resolve({"mode": "ray"}, layer)
    assert dict(options.ray) == {"num_cpus": 0.5, "num_gpus": 0, "resources": {"tpu": 1}, "namespace": "mine", "x": 1}
    assert dict(resolve({"mode": "thread"}, layer).ray) == {}


def test_none_leaves_it_to_weaker_layers_and_to_the_default() -> None:
    assert resolve({"mode": "ray", "num_cpus": None, "actor_options": None}, {"num_cpus": 4}).ray["num_cpus"] == 4
    assert resolve({"mode": "ray", "num_cpus": None}).ray["num_cpus"] == 1
