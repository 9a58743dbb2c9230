"""`RetryConfig`, and the options of a worker compiled to one policy for each method."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from concurry import Worker
from concurry.config import layers, temp_config
from concurry.options import TABLE, Options
from concurry.retry import FIELDS, CompiledRetries, RetryConfig, compile_policies
from concurry.runtime.enums import RetryAlgorithm
from concurry.runtime.retry_policy import Policy

METHODS = ("call_llm", "embed", "fetch_page")


def good(result: Any) -> bool:
    return bool(result)


def busy(exception: BaseException) -> bool:
    return "busy" in str(exception)


def compiled(options: Any, methods: Any = METHODS) -> CompiledRetries:
    return compile_policies(options, methods, "LLM")


def policy(options: Any, method: str = "call_llm") -> Policy:
    made = compiled(options).policies[method]
    assert made is not None
    return made


# -- RetryConfig ---------------------------------------------------------------------------------------------------


def test_the_defaults() -> None:
    config = RetryConfig()
    assert config.num_retries == 0
    assert config.retry_on == [Exception]
    assert config.retry_algorithm is RetryAlgorithm.Exponential
    assert config.retry_wait == 1.0
    assert config.retry_jitter == 0.3
    assert config.retry_until is None
    assert {name: getattr(config, name) for name in FIELDS} == {name: TABLE[name].default for name in FIELDS}


def test_one_or_several_are_kept_as_lists() -> None:
    assert RetryConfig(retry_on=ValueError).retry_on == [ValueError]
    assert RetryConfig(retry_on=busy).retry_on == [busy]
    assert RetryConfig(retry_on=(ValueError, busy)).retry_on == [ValueError, busy]
    assert RetryConfig(retry_on=[KeyboardInterrupt]).retry_on == [KeyboardInterrupt]
    assert RetryConfig(retry_on=(it for it in [OSError])).retry_on == [OSError]
    assert RetryConfig(retry_on=[]).retry_on == []
    assert RetryConfig(retry_until=good).retry_until == [good]
    assert RetryConfig(retry_until=(good, len)).retry_until == [good, len]
    assert RetryConfig(retry_until=[good]).retry_until == [good]


def test_a_list_is_not_shared() -> None:
    rules: list[Any] = [ValueError]
    config = RetryConfig(retry_on=rules)
    rules.append(KeyError)
    assert config.retry_on == [ValueError]
    RetryConfig().retry_on.append(KeyError)
    assert RetryConfig().retry_on == [Exception]


@pytest.mark.parametrize("given", ["linear", "Linear", "LINEAR", RetryAlgorithm.Linear])
def test_an_algorithm_by_any_name(given: Any) -> None:
    assert RetryConfig(retry_algorithm=given).retry_algorithm is RetryAlgorithm.Linear


def test_numbers_as_text() -> None:
    numbers: dict[str, Any] = {"num_retries": "5", "retry_wait": "1.5", "retry_jitter": "0"}
    config = RetryConfig(**numbers)
    assert (config.num_retries, config.retry_wait, config.retry_jitter) == (5, 1.5, 0.0)
    assert type(config.num_retries) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_retries": -1}, "RetryConfig: num_retries must be a whole number, 0 or more, not -1"),
        ({"num_retries": 1.5}, "num_retries must be a whole number"),
        ({"num_retries": True}, "num_retries must be a whole number"),
        ({"num_retries": "many"}, "num_retries must be a whole number"),
        ({"num_retries": {"*": 1}}, "num_retries cannot be a dict; those by method name belong in"),
        ({"retry_wait": -0.1}, "retry_wait must be seconds, 0 or more, not -0.1"),
        ({"retry_wait": math.nan}, "retry_wait must be seconds"),
        ({"retry_wait": math.inf}, "a wait without an end"),
        ({"retry_wait": "soon"}, "retry_wait must be seconds"),
        ({"retry_jitter": -1}, "retry_jitter must be a number, 0 or more"),
        ({"retry_jitter": math.nan}, "retry_jitter must be"),
        ({"retry_algorithm": "quadratic"}, "Could not find enum with value 'quadratic'"),
        ({"retry_algorithm": 7}, "Could not find enum with value 7"),
        ({"retry_on": [int]}, "must be subclasses of BaseException, .* int is neither"),
        ({"retry_on": "ValueError"}, "must be subclasses of BaseException, .* 'ValueError' is neither"),
        ({"retry_on": [ValueError, 7]}, "must be subclasses of BaseException, .* 7 is neither"),
        ({"retry_on": ValueError("x")}, "must be subclasses of BaseException.*; say ValueError, the type"),
        ({"retry_on": {"*": ValueError}}, "retry_on cannot be a dict"),
        (
            {"retry_on": lambda: True},
            r"RetryConfig: retry_on: <lambda> \(test_config.py:\d+\) cannot be called with the",
        ),
        ({"retry_until": 7}, "retry_until must be a function .* 7 is none"),
        ({"retry_until": "len"}, "retry_until must be a function"),
        ({"retry_until": [good, None]}, "retry_until must be a function"),
        ({"retry_until": lambda: True}, "retry_until: <lambda> .*it takes nothing"),
        ({"retry_until": {"*": good}}, "retry_until cannot be a dict"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetryConfig(**given)


def test_an_unknown_field_is_refused() -> None:
    fields: dict[str, Any] = {"retries": 3}
    with pytest.raises(TypeError, match="retries"):
        RetryConfig(**fields)


def test_it_cannot_be_changed_and_is_a_value() -> None:
    config = RetryConfig(3, retry_on=ValueError)
    with pytest.raises(AttributeError):
        config.num_retries = 4  # type: ignore[misc]
    assert config == RetryConfig(num_retries=3, retry_on=[ValueError])
    assert config != RetryConfig(num_retries=3)
    assert dataclasses.replace(config, num_retries=4) == RetryConfig(4, retry_on=ValueError)
    assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
    assert "num_retries=3" in repr(config)


def test_it_may_stand_in_a_pydantic_model() -> None:
    import pydantic

    class Model(pydantic.BaseModel):
        retries: RetryConfig

    config = RetryConfig(3, retry_until=good)
    assert Model(retries=config).retries is config


# -- one policy for each method --------------------------------------------------------------------------------------


def test_nothing_asked_is_no_policy() -> None:
    for options in ({}, {"num_retries": 0, "retry_wait": 5}, {"num_retries": None, "retry_config": None}):
        assert compiled(options) == CompiledRetries(dict.fromkeys(METHODS), frozenset())
    assert RetryConfig().compile() is None


def test_one_policy_for_all() -> None:
    made = compiled({"num_retries": 2, "retry_on": [ValueError, busy], "retry_wait": 3, "retry_algorithm": "fixed"})
    one = made.policies["embed"]
    assert one is not None
    assert set(made.policies) == set(METHODS)
    assert all(it is one for it in made.policies.values())
    assert made.named == frozenset()
    assert (one.num_retries, one.types, one.wait, one.algorithm) == (2, (ValueError,), 3, RetryAlgorithm.Fixed)
    assert [it.fn for it in one.predicates] == [busy]


def test_validators_alone_make_a_policy() -> None:
    assert [it.fn for it in policy({"retry_until": good}).validators] == [good]


def test_by_method_with_a_star_for_the_rest() -> None:
    options = {
        "num_retries": {"call_llm": 5, "*": 1},
        "retry_on": {"*": ValueError, "embed": [OSError, busy]},
        "retry_algorithm": {"*": "fixed", "call_llm": "linear"},
        "retry_wait": {"*": 0.5, "fetch_page": 2},
        "retry_jitter": {"*": 0, "call_llm": 1},
        "retry_until": {"*": None, "call_llm": [good, len]},
    }
    made = compiled(options)
    assert made.named == set(METHODS)
    llm, embed, fetch = (made.policies[it] for it in METHODS)
    assert llm is not None
    assert embed is not None
    assert fetch is not None
    assert [it.num_retries for it in (llm, embed, fetch)] == [5, 1, 1]
    assert [it.types for it in (llm, embed, fetch)] == [(ValueError,), (OSError,), (ValueError,)]
    assert [len(it.predicates) for it in (llm, embed, fetch)] == [0, 1, 0]
    assert [it.algorithm.value for it in (llm, embed, fetch)] == ["linear", "fixed", "fixed"]
    assert [it.wait for it in (llm, embed, fetch)] == [0.5, 0.5, 2]
    assert [it.jitter for it in (llm, embed, fetch)] == [1, 0, 0]
    assert [len(it.validators) for it in (llm, embed, fetch)] == [2, 0, 0]


def test_only_the_named_ones_are_named() -> None:
    made = compiled({"num_retries": {"*": 0, "call_llm": 2}})
    assert made.named == {"call_llm"}
    assert made.policies["embed"] is None
    assert compiled({"num_retries": {"*": 3}}).named == frozenset()
    assert compiled({"retry_config": {"*": RetryConfig(1), "embed": RetryConfig(2)}}).named == {"embed"}


def test_a_config_is_the_same_as_its_fields() -> None:
    fields: dict[str, Any] = {
        "num_retries": 4,
        "retry_on": [OSError, busy],
        "retry_algorithm": "fibonacci",
        "retry_wait": 2.5,
        "retry_jitter": 0,
        "retry_until": [good],
    }
    assert policy({"retry_config": RetryConfig(**fields)}) == policy(fields)
    by_method = {"retry_config": {"*": RetryConfig(), "call_llm": RetryConfig(**fields)}}
    assert policy(by_method) == policy(fields)
    assert compiled(by_method).policies["embed"] is None


def test_a_single_option_beside_a_config_takes_its_place() -> None:
    config = RetryConfig(4, retry_wait=2.5, retry_until=good)
    made = policy({"retry_config": config, "num_retries": 1})
    assert (made.num_retries, made.wait, len(made.validators)) == (1, 2.5, 1)
    made = policy({"retry_config": {"*": None, "call_llm": config}, "num_retries": {"*": 0, "call_llm": 7}})
    assert (made.num_retries, made.wait) == (7, 2.5)


@pytest.mark.parametrize(
    ("layers", "retries", "wait"),
    [
        ([{"mode": "sync", "num_retries": 2}], 2, 1.0),
        ([{"mode": "sync"}, {"retry_config": RetryConfig(4, retry_wait=2)}], 4, 2),
        ([{"mode": "sync", "num_retries": 7}, {"retry_config": RetryConfig(4, retry_wait=2)}], 7, 2),
        ([{"mode": "sync", "retry_config": RetryConfig(4, retry_wait=2)}, {"num_retries": 7, "retry_wait": 9}], 4, 2),
        ([{"mode": "sync", "retry_config": RetryConfig(4), "num_retries": 7}, {"retry_wait": 9}], 7, 1),
    ],
)
def test_the_layers_of_options(layers: list[dict[str, Any]], retries: int, wait: float) -> None:
    made = policy(Options.resolve(layers, worker="LLM"))
    assert (made.num_retries, made.wait) == (retries, wait)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """What was logged so far on a level; asking empties the list."""
    caplog.set_level(logging.DEBUG, logger="concurry")

    def take(level: str) -> list[str]:
        messages = [it.getMessage() for it in caplog.records if it.levelname == level and it.name == "concurry"]
        caplog.clear()
        return messages

    return take


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"retry_on": [OSError]}, ["retry_on"]),
        ({"retry_wait": 2, "retry_algorithm": "linear"}, ["retry_algorithm", "retry_wait"]),
        ({"retry_jitter": 0}, ["retry_jitter"]),
        ({"retry_on": {"*": Exception, "embed": OSError}}, ["retry_on"]),
        ({"retry_until": good, "retry_wait": 1}, ["retry_wait"]),
        ({"retry_config": RetryConfig(retry_on=[OSError])}, ["retry_config"]),
        ({"retry_config": RetryConfig(retry_wait=2, retry_until=good)}, ["retry_config"]),
        ({"retry_config": {"*": RetryConfig(), "embed": RetryConfig(retry_algorithm="fixed")}}, ["retry_config"]),
        ({"retry_config": RetryConfig(), "retry_on": OSError}, ["retry_on"]),
    ],
)
def test_retries_of_which_nobody_said_how_many(options: dict[str, Any], named: list[str], said: Any) -> None:
    for given in (options, Options.resolve([{"mode": "sync"}, options], worker="LLM")):
        compiled(given)
        (warning,) = said("WARNING")
        assert "LLM" in warning
        assert ", ".join(named) in warning
        assert "nothing is tried again" in warning
        assert "num_retries=3" in warning


@pytest.mark.parametrize(
    "options",
    [
        {"retry_on": [OSError], "num_retries": 0},
        {"retry_on": [OSError], "num_retries": {"*": 0, "embed": 2}},
        {"retry_on": [OSError], "retry_config": RetryConfig(num_retries=0)},
        {"retry_config": RetryConfig(0, retry_on=[OSError])},
        {"retry_config": RetryConfig(num_retries="0", retry_on=[OSError])},  # type: ignore[arg-type]
        {"retry_config": {"*": RetryConfig(retry_wait=2), "embed": RetryConfig(3)}},
        {"retry_config": RetryConfig()},
        {"retry_config": RetryConfig(retry_until=good)},
        {"retry_until": good},
        {"num_retries": 3, "retry_on": OSError},
        {},
    ],
)
def test_where_it_is_said_or_nothing_asks_for_it_nothing_is_logged(options: dict[str, Any], said: Any) -> None:
    for given in (options, Options.resolve([{"mode": "sync"}, options], worker="LLM")):
        compiled(given)
        assert said("WARNING") == []


def test_what_is_said_of_all_workers_is_no_slip_of_one(said: Any) -> None:
    with temp_config(global_retry_wait=5, sync_retry_on=OSError):
        compiled(Options.resolve([{"mode": "sync"}, *layers()], worker="LLM"))
        assert said("WARNING") == []
        compiled(Options.resolve([{"mode": "sync", "retry_jitter": 0}, *layers()], worker="LLM"))
        (warning,) = said("WARNING")
        assert "retry_jitter" in warning
        assert "retry_wait" not in warning
    with temp_config(global_num_retries=5):
        compiled(Options.resolve([{"mode": "sync", "retry_on": OSError}, *layers()], worker="LLM"))
        assert said("WARNING") == []


def test_it_is_said_once_for_a_handle(said: Any) -> None:
    class LLM(Worker):
        def call_llm(self) -> int:
            return 1

    with LLM.options(mode="thread", max_workers=3, retry_on=[OSError]).init() as llm:
        assert [it.result(timeout=10) for it in [llm.call_llm() for _ in range(6)]] == [1] * 6
    assert len(said("WARNING")) == 1


def test_which_of_two_places_holds_is_told_to_who_looks(said: Any) -> None:
    config = RetryConfig(4)
    compiled({"num_retries": 7, "retry_config": config})
    (line,) = said("DEBUG")
    assert "LLM: num_retries=7" in line
    assert "retry_config" in line
    compiled(Options.resolve([{"mode": "sync", "retry_config": config}, {"num_retries": 7}], worker="LLM"))
    (line,) = said("DEBUG")
    assert "LLM: num_retries=7 is passed over" in line
    compiled({"retry_config": config})
    assert said("DEBUG") == []


def test_whether_retries_were_said_goes_with_a_config(said: Any) -> None:
    unsaid = RetryConfig(retry_on=[OSError])
    assert unsaid.num_retries == 0
    assert unsaid == RetryConfig(num_retries=0, retry_on=[OSError])
    assert repr(unsaid) == repr(RetryConfig(num_retries=0, retry_on=[OSError]))
    for config in (unsaid, copy.deepcopy(unsaid), pickle.loads(pickle.dumps(unsaid))):
        compiled({"retry_config": config})
        assert len(said("WARNING")) == 1
    assert inspect.signature(RetryConfig).parameters["num_retries"].default == 0


def test_options_without_retries() -> None:
    assert compiled(Options.resolve([{"mode": "sync"}], worker="LLM")).policies == dict.fromkeys(METHODS)


@pytest.mark.parametrize(
    "option",
    ["num_retries", "retry_on", "retry_algorithm", "retry_wait", "retry_jitter", "retry_until", "retry_config"],
)
def test_a_dict_needs_a_star(option: str) -> None:
    with pytest.raises(ValueError, match=r"LLM: .*must include '\*' key for default value"):
        compiled({option: {"call_llm": None}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_retries": {"*": 1, "cal_llm": 2}}, "LLM: num_retries names 'cal_llm', .* did you mean 'call_llm'?"),
        (
            {"retry_until": {"*": None, "xyz": good}},
            "'xyz', which is no method of LLM; there are call_llm, embed, fetch",
        ),
        ({"retry_on": {"*": ValueError, 7: OSError}}, "names 7, which is no method"),
        ({"num_retries": {"*": 1, "embed": -2}}, r"LLM: num_retries\['embed'\] must be a whole number, .* not -2"),
        ({"num_retries": {"*": -1}}, r"num_retries\['\*'\] must be a whole number"),
        ({"num_retries": -1}, "LLM: num_retries must be a whole number"),
        ({"retry_on": {"*": ValueError, "embed": int}}, r"retry_on\['embed'\] must be subclasses of BaseException"),
        ({"retry_on": 7}, "must be subclasses of BaseException"),
        ({"retry_until": {"*": 7}}, r"retry_until\['\*'\] must be a function"),
        (
            {"num_retries": 1, "retry_until": lambda: 1},
            "LLM: retry_until: <lambda> .* cannot be called with the result",
        ),
        ({"num_retries": {"*": {"*": 1}}}, "cannot be a dict"),
        ({"retry_config": 3}, "LLM: retry_config must be a RetryConfig, not 3"),
        ({"retry_config": {"*": None, "embed": ValueError}}, r"retry_config\['embed'\] must be a RetryConfig, not Val"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(options)


def test_tasks_are_named_submit() -> None:
    assert compiled({"num_retries": {"*": 0, "submit": 2}}, ["submit"]).named == {"submit"}


def test_a_compiled_policy_can_be_sent() -> None:
    made = policy({"num_retries": 3, "retry_on": [OSError, busy], "retry_until": [good, len]})
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        policy({"num_retries": 3}).num_retries = 5  # type: ignore[misc]


def test_importing_it_is_light() -> None:
    heavy = "{'asyncio', 'email', 'difflib', 'numpy', 'pydantic', 'decimal'}"
    check = f"import sys, concurry.retry; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
