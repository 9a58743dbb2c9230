"""What users write about retries, and how it becomes one policy for each method.

Guarantees: whatever cannot be is refused where it is written: `RetryConfig(...)` checks itself, and `compile_policies`
checks the options of a worker against its methods. A method without retries and validators has no policy at all, so
that it costs nothing on its way.
Assumes: the checks and defaults of single options stand in `concurry.options`.
Called by: users (`RetryConfig`, `calculate_retry_wait`); the face, once for each handle (`compile_policies`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from concurry.option import is_mapping
from concurry.options import TABLE
from concurry.runtime.enums import RetryAlgorithm
from concurry.runtime.retry_check import Check, compile_check, name_of
from concurry.runtime.retry_policy import Policy

if TYPE_CHECKING:
    from concurry.option_types import Algorithm, Condition, RetryRule

log = logging.getLogger("concurry")

FIELDS: Final = ("num_retries", "retry_on", "retry_algorithm", "retry_wait", "retry_jitter", "retry_until")
_UNSAID: Final = 1_000_000  # a layer weaker than any that says something
_ASK_FOR_RETRIES: Final = ("retry_on", "retry_algorithm", "retry_wait", "retry_jitter")  # of no use without num_retries
# Of a RetryConfig, where `num_retries` was not given. No field: it makes no difference to anything but a warning.
_SAYS_HOW_OFTEN: Final = "_says_how_often"


_NO_RETRIES: Final[int] = type("int", (int,), {})(0)  # the default: a 0 that can be told from one that was given


@dataclass(frozen=True, init=False)
class RetryConfig:
    """When and how a call is tried again; the retry options of a worker as one object. Cannot be changed.

    Args:
        num_retries: attempts after the first one.
        retry_on: which exceptions are tried again: types, and predicates such as
            ``lambda exception, attempt, **ctx: ...``; one or several.
        retry_algorithm: how the wait grows: exponential (wait x 2^(n-1)), linear (wait x n), fibonacci
            (wait x fib(n)), fixed.
        retry_wait: the wait after the first attempt, in seconds.
        retry_jitter: above 0, the wait is drawn from [0, wait].
        retry_until: which results are good: one or several validators such as ``lambda result, **ctx: ...``, which
            must all hold. None: every result is.

    Where a worker is given `retry_config` and single options such as `num_retries` as well, the stronger place holds
    (`.options(...)`, then the decorator, then class arguments, then the configuration); in the same place the single
    option holds, and the config for the rest. What is passed over is logged at debug level. Retries that are described
    (`retry_on`, a wait) while `num_retries` is given nowhere are none: `.init()` logs a warning then.

    The library's own errors about how it is used (`concurry.errors.MisuseError`: a limit that was not reported, a
    request above the capacity, a deadlock) are never tried again, whatever `retry_on` says; nor is cancellation.

    An exception that carries a wait (`Retry-After`) is waited for at least that long, without a bound; from a minute on
    a warning is logged for each. `call_timeout` ends such a call.

    Predicates and validators may take, by name, `attempt` (from 1), `elapsed_time` (seconds), `method_name`,
    `worker_class_name`, `args` and `kwargs`.

    Raises:
        ValueError: a value that cannot be, or a function that cannot be called so.
    """

    num_retries: int
    retry_on: list[type[BaseException] | Callable[..., Any]]
    retry_algorithm: RetryAlgorithm
    retry_wait: float
    retry_jitter: float
    retry_until: list[Callable[..., Any]] | None

    def __init__(
        self,
        num_retries: int = _NO_RETRIES,
        retry_on: RetryRule | Iterable[RetryRule] | None = None,
        retry_algorithm: Algorithm = RetryAlgorithm.Exponential,
        retry_wait: float = 1.0,
        retry_jitter: float = 0.3,
        retry_until: Condition | Iterable[Condition] | None = None,
    ) -> None:
        given = (num_retries, retry_on, retry_algorithm, retry_wait, retry_jitter, retry_until)
        for name, value in zip(FIELDS, given, strict=True):
            object.__setattr__(self, name, _checked(name, value, "RetryConfig"))
        if num_retries is _NO_RETRIES:
            object.__setattr__(self, _SAYS_HOW_OFTEN, False)
        self.compile("RetryConfig")  # for the functions' signatures

    def compile(self, who: str = "RetryConfig") -> Policy | None:
        """The policy that this describes, or None where it asks for nothing. `who`: for messages."""
        return _policy({name: getattr(self, name) for name in FIELDS}, who)


def calculate_retry_wait(attempt: int, config: RetryConfig) -> float:
    """Seconds to wait after attempt number `attempt` before the next, jitter included.

    Args:
        attempt: counted from 1.
        config: of which `retry_algorithm`, `retry_wait` and `retry_jitter` count.

    Raises:
        ValueError: `attempt` is below 1.
    """
    return Policy(algorithm=config.retry_algorithm, wait=config.retry_wait, jitter=config.retry_jitter).wait_s(attempt)


@dataclass(frozen=True, slots=True)
class CompiledRetries:
    """The retries of a worker class, ready for use.

    Attributes:
        policies: by method; None where a call runs once and any result is good.
        named: the methods that an option names. Their policy holds wherever they are called from, also for
            `self.method()` inside the worker; that of the others for calls from outside.
    """

    policies: dict[str, Policy | None]
    named: frozenset[str]


def compile_policies(options: Any, method_names: Iterable[str], class_name: str) -> CompiledRetries:
    """Make the policy of each method from a worker's options.

    Args:
        options: a `concurry.options.Options`, or a mapping of options to values, where None means not said.
        method_names: the worker's methods; "submit" for tasks.
        class_name: for messages.

    Where there is a `retry_config`, it holds; what an option says beside it, or on a stronger layer, takes the place of
    that one field.

    Raises:
        ValueError: a value that cannot be; a dict without "*"; a method that does not exist, with the nearest name.

    Logs a warning where retries are described and nobody says how many.
    """
    values, given = _values_of(options)
    methods = list(method_names)
    names: set[str] = set()
    for option in (*FIELDS, "retry_config"):
        value = values.get(option)
        if is_mapping(value):
            _check_keys(option, value, methods, class_name)
            names.update(value)
    names.discard("*")

    def policy_of(method: str) -> Policy | None:
        config = _for_method(values.get("retry_config"), method)
        if config is not None and not isinstance(config, RetryConfig):
            label = _label("retry_config", values, method)
            raise ValueError(f"{class_name}: {label} must be a RetryConfig, not {_short(config)}")
        fields: dict[str, Any] = {}
        for field in FIELDS:
            said_at = given.get(field, _UNSAID + 1)
            if config is None or said_at <= given.get("retry_config", _UNSAID):
                label = _label(field, values, method)
                fields[field] = _checked(field, _for_method(values.get(field), method), class_name, label)
            else:
                fields[field] = getattr(config, field)
        return _policy(fields, class_name)

    rest = policy_of("*")
    policies = {method: policy_of(method) if method in names else rest for method in methods}
    _warn_of_none(values, given, class_name)
    _tell_which_holds(values, given, class_name)
    return CompiledRetries(policies, frozenset(names))


def _values_of(options: Any) -> tuple[Mapping[str, Any], Mapping[str, int]]:
    """The values, and on which layer each was said (0 is the strongest; those that nobody said are not in it)."""
    if is_mapping(options):
        values = {name: value for name, value in options.items() if value is not None}
        return values, dict.fromkeys(values, 0)
    return options.values, options.given


def _warn_of_none(values: Mapping[str, Any], given: Mapping[str, int], class_name: str) -> None:
    """Log where retries are described for this worker, and how many is said nowhere."""
    configs = _configs(values)
    if "num_retries" in given or any(vars(it).get(_SAYS_HOW_OFTEN, True) for it in configs):
        return
    asking = [name for name in _ASK_FOR_RETRIES if name in given]
    if any(getattr(it, name) != _checked(name, None, class_name) for it in configs for name in _ASK_FOR_RETRIES):
        asking.append("retry_config")
    if asking:
        from concurry.config import layers

        # What is said of all workers is no slip of this one, which may do without retries.
        mode: Any = values.get("mode")
        said: set[str] = set()
        for layer in layers():
            said.update(layer, layer.by_mode.get(mode, {}))
        asking = [it for it in asking if it not in said]
    if asking:
        log.warning(
            "concurry: %s: %s given, and num_retries nowhere: it is 0, so nothing is tried again. Say how often, as in "
            "num_retries=3; or num_retries=0, where none is meant",
            class_name,
            f"{', '.join(asking)} {'is' if len(asking) == 1 else 'are'}",
        )


def _tell_which_holds(values: Mapping[str, Any], given: Mapping[str, int], class_name: str) -> None:
    """Log, for whoever looks at debug level, which of a single option and the `retry_config` holds."""
    if not _configs(values):
        return
    for field in FIELDS:
        if field in given:
            stands = given[field] <= given.get("retry_config", _UNSAID)
            log.debug(
                "concurry: %s: %s=%s %s",
                *(class_name, field, _short(values.get(field))),
                "takes the place of that of retry_config"
                if stands
                else "is passed over: retry_config is said in a stronger place",
            )


def _configs(values: Mapping[str, Any]) -> list[RetryConfig]:
    config = values.get("retry_config")
    return [it for it in (config.values() if is_mapping(config) else (config,)) if isinstance(it, RetryConfig)]


def _for_method(value: Any, method: str) -> Any:
    return value.get(method, value["*"]) if is_mapping(value) else value


def _label(option: str, values: Mapping[str, Any], method: str) -> str:
    value = values.get(option)
    if is_mapping(value):
        return f"{option}[{method if method in value else '*'!r}]"
    return option


def _check_keys(option: str, by_method: Mapping[Any, Any], methods: Collection[str], class_name: str) -> None:
    if "*" not in by_method:
        raise ValueError(
            f"{class_name}: {option} by method must include '*' key for default value, for the methods that are not "
            f"named; there are {', '.join(map(repr, by_method)) or 'no keys'}"
        )
    for method in by_method:
        if method != "*" and method not in methods:
            from concurry.option import nearest

            near = nearest(str(method), methods)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(sorted(methods)) or 'none'}"
            raise ValueError(f"{class_name}: {option} names {method!r}, which is no method of {class_name}; {hint}")


# -- one value, one policy --------------------------------------------------------------------------------------------


def _checked(name: str, value: Any, who: str, label: str = "") -> Any:
    """`value` as a policy and a `RetryConfig` keep it."""
    label = label or name
    if is_mapping(value):
        raise ValueError(f"{who}: {label} cannot be a dict; those by method name belong in .options(...)")
    if name == "retry_on":
        return _rules(value, who, label)
    if name == "retry_until":
        return _validators(value, who, label)
    option = TABLE[name]
    if value is None:
        value = option.default
    allowed = option.allowed.partition(", or a dict")[0]
    try:
        checked = option.check(value)
        if name == "retry_wait" and math.isinf(checked):
            raise ValueError("a wait without an end would be a call without an end")
    except (ValueError, TypeError, OverflowError) as error:
        why = f" ({error})" if str(error) else ""
        raise ValueError(f"{who}: {label} must be {allowed}, not {_short(value)}{why}") from error
    return checked


def _rules(value: Any, who: str, label: str) -> list[RetryRule]:
    rules = _listed(TABLE["retry_on"].default if value is None else value)
    for rule in rules:
        if not callable(rule) or (isinstance(rule, type) and not issubclass(rule, BaseException)):
            hint = f"; say {type(rule).__name__}, the type" if isinstance(rule, BaseException) else ""
            raise ValueError(
                f"{who}: the types in {label} must be subclasses of BaseException, and anything else a function that "
                f"says whether an exception is tried again; {_short(rule)} is neither{hint}"
            )
    return rules


def _validators(value: Any, who: str, label: str) -> list[Callable[..., Any]] | None:
    if value is None:
        return None
    validators = _listed(value)
    for validator in validators:
        if not callable(validator):
            raise ValueError(
                f"{who}: {label} must be a function that says whether a result is good, or several; "
                f"{_short(validator)} is none"
            )
    return validators


def _listed(value: Any) -> list[Any]:
    return (
        list(value) if _is_iterable(value) and not callable(value) and not isinstance(value, (str, bytes)) else [value]
    )


def _is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)


def _policy(fields: Mapping[str, Any], who: str) -> Policy | None:
    """A policy from checked values; None where every call runs once and any result is good."""
    rules = fields["retry_on"]
    types = tuple(rule for rule in rules if isinstance(rule, type))
    policy = Policy(
        num_retries=fields["num_retries"],
        types=types,
        predicates=_checks([rule for rule in rules if not isinstance(rule, type)], "exception", f"{who}: retry_on"),
        validators=_checks(fields["retry_until"] or [], "result", f"{who}: retry_until"),
        algorithm=fields["retry_algorithm"],
        wait=fields["retry_wait"],
        jitter=fields["retry_jitter"],
    )
    return policy if policy.num_retries or policy.validators else None


def _checks(functions: Iterable[Callable[..., Any]], subject: str, where: str) -> tuple[Check, ...]:
    try:
        return tuple(compile_check(function, subject) for function in functions)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _short(value: Any) -> str:
    if callable(value):
        return name_of(value).removesuffix("()")
    from concurry.runtime.retry_notes import short

    return short(value)
