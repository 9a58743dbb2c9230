"""What is said to somebody who names an option that there is not, or forgets the mode.

Guarantees: the name that another library has for a thing leads to ours, or to where the thing is said here; a slip of
the pen to the nearest name. Nothing here is an option.
Called by: `concurry.options`, for `.options(...)`, `@worker`, `@task`, `Executor` and class arguments alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from concurry.option import nearest

SAY_MODE: Final = "it on the class, or .options(mode='thread')"

_OTHER_WORDS: Final[Mapping[str, str]] = {  # what other libraries call an option of ours
    "concurrency": "max_concurrency",
    "max_retries": "num_retries",
    "retries": "num_retries",
    "timeout": "call_timeout",
    "workers": "max_workers",
    "n_workers": "max_workers",
    "num_workers": "max_workers",
    "n_jobs": "max_workers",
    "processes": "max_workers",
    "num_processes": "max_workers",
    "nprocs": "max_workers",
    "threads": "max_workers",
    "pool_size": "max_workers",
    "queue_size": "mailbox_size",
    "maxsize": "mailbox_size",
    "max_tasks_per_child": "max_calls_per_worker",
    "maxtasksperchild": "max_calls_per_worker",
    "max_nbytes": "shared_memory_threshold",
    "backend": "mode",
    "context": "mp_context",
    "start_method": "mp_context",
}
_PREPARED: Final = (
    "what a worker prepares once belongs in the `__init__` of a class (Worker), whose methods find it in `self`; a "
    "function that carries what it needs is bound once: TaskWorker.options(...).init(fn)"
)
_AT_MAP: Final = "it is said at the call: map(fn, xs, {}=...)"
_NOT_HERE: Final[Mapping[str, str]] = {  # what is no option here, and what to do instead
    "initializer": _PREPARED,
    "initargs": _PREPARED,
    "thread_name_prefix": "there is none: workers, and what logs and errors say of them, are named by their class",
    "chunksize": _AT_MAP.format("chunksize"),
    "batch_size": _AT_MAP.format("chunksize"),
    "buffersize": _AT_MAP.format("buffersize"),
    "pre_dispatch": _AT_MAP.format("buffersize"),
}


def unknown(
    name: str, worker: str, ours: Collection[str], rays: Collection[str], configuration: Collection[str]
) -> TypeError:
    """The error for an option that there is not.

    Args:
        worker: whose it was to be, for the message.
        ours, rays, configuration: the names of the options, of Ray's own, and of what only the configuration has.
    """
    if name in configuration:
        hint = f"it is a setting of the configuration: global_config.defaults.{name}"
    elif name == "auto_init":
        hint = "it belongs on the class: class W(Worker, auto_init=True) or @worker(auto_init=True)"
    elif name in _NOT_HERE:
        hint = _NOT_HERE[name]
    elif near := _OTHER_WORDS.get(name) or nearest(name, [*ours, *rays]):
        hint = f"did you mean {near!r}?"
    else:
        hint = f"there are {', '.join(ours)}, and Ray's own: {', '.join(rays)}"
    return TypeError(f"{worker}: unknown option {name!r}; {hint}")


def by_keyword(who: str, given: tuple[Any, ...]) -> TypeError:
    """The error for options that were given by place: shows how they are said."""
    mode: Any = next((it for it in given if isinstance(it, str)), "thread")
    workers = next((it for it in given if isinstance(it, int) and it is not True), None)
    said = f"mode={mode!r}" if workers is None else f"mode={mode!r}, max_workers={workers}"
    got = ", ".join(map(repr, given))
    return TypeError(f"{who}({got}): options go by keyword; say {who}({said})")
