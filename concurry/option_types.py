"""The types of the options, as editors and type checkers see them.

Guarantees: the same names as the table in `concurry.options` (a test compares them).
Assumes: nobody needs it while the program runs: import it under `TYPE_CHECKING`, it costs 2 ms otherwise.
Called by: whatever takes options as keywords: `def options(cls, **given: Unpack[OptionArgs])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from concurry.runtime.enums import ExecutionMode, LoadBalancingAlgorithm, RetryAlgorithm

if TYPE_CHECKING:
    from concurry.limits import Limit, LimitPool, LimitSet
    from concurry.retry import RetryConfig

# `str` beside the literals: a mode that comes from a variable is as good, and editors still complete the words.
Mode = ExecutionMode | Literal["sync", "thread", "process", "asyncio", "ray", "auto"] | str
Balancing = LoadBalancingAlgorithm | Literal["round_robin", "least_active", "least_total", "random"] | str
Algorithm = RetryAlgorithm | Literal["exponential", "linear", "fibonacci", "fixed"] | str


class _More(Protocol):
    def __call__(self, subject: Any, /, **context: Any) -> Any: ...


class _MoreAndOne(Protocol):
    def __call__(self, subject: Any, one: Any, /, **context: Any) -> Any: ...


class _MoreAndTwo(Protocol):
    def __call__(self, subject: Any, one: Any, two: Any, /, **context: Any) -> Any: ...


class _AnyOther(Protocol):
    @property
    def __call__(self) -> Callable[..., Any]: ...


# A function of a result or an exception; it takes what it names. `Callable[..., Any]` says the same, but under it
# pyright's strict mode flags every lambda, whose parameters it then does not know. Of these it takes the one that looks
# as the lambda does, and its parameters are Any; the last one is whatever can be called.
Condition = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | _More
    | _MoreAndOne
    | _MoreAndTwo
    | _AnyOther
)
RetryRule = type[BaseException] | Condition
# Not `Iterable`, which a dict is as well: mypy could not tell which of the two a dict by method name is meant to be.
RetryRules = RetryRule | Sequence[RetryRule] | Set[RetryRule]
Validators = Condition | Sequence[Condition] | Set[Condition]


class OptionArgs(TypedDict, total=False):
    """The keywords of `.options(...)`. What each means, and its default, stands in `concurry.options.Options`."""

    mode: Mode | None
    max_workers: int | None
    max_concurrency: int | None
    blocking: bool | None
    load_balancing: Balancing | None
    on_demand: bool | None
    max_queued_tasks: int | None
    mailbox_size: int | None
    on_full: Literal["block", "raise"] | None
    unwrap_futures: bool | None
    limits: Limit | LimitSet | LimitPool | Iterable[Limit | LimitSet] | None
    num_retries: int | Mapping[str, int] | None
    retry_on: RetryRules | Mapping[str, RetryRules] | None
    retry_algorithm: Algorithm | Mapping[str, Algorithm] | None
    retry_wait: float | Mapping[str, float] | None
    retry_jitter: float | Mapping[str, float] | None
    retry_until: Validators | Mapping[str, Validators | None] | None
    retry_config: RetryConfig | Mapping[str, RetryConfig] | None
    max_restarts: int | None
    restart_window: float | None
    call_timeout: float | Mapping[str, float | None] | None
    stop_timeout: float | None
    init_timeout: float | None
    exit_timeout: float | None
    mp_context: Literal["forkserver", "spawn", "fork"] | None
    limit_native_threads: bool | None
    shared_memory_threshold: int | None
    writable_arrays: bool | None
    max_calls_per_worker: int | None
    max_memory_per_worker: int | None
    # Ray's own
    actor_options: Mapping[str, Any] | None
    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    object_store_memory: float | None
    resources: Mapping[str, float] | None
    accelerator_type: str | None
    runtime_env: Any
    scheduling_strategy: Any
    label_selector: Mapping[str, str] | None
    fallback_strategy: Any
    namespace: str | None
    name: str | None
    lifetime: Literal["detached", "non_detached"] | None
    get_if_exists: bool | None
    max_task_retries: int | None
    max_pending_calls: int | None
    placement_group: Any
    placement_group_bundle_index: int | None
    placement_group_capture_child_tasks: bool | None
    enable_task_events: bool | None
