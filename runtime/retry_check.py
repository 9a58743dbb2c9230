"""A user's predicate or validator, and how it wants to be called: worked out once, when a policy is compiled.

Guarantees: what cannot be called with a result (an exception) is refused by `compile_check`, with its signature in the
error; afterwards a call costs no inspection.

The rule. A parameter named like something in the context is given that: `result` (validators) or `exception`
(predicates), `attempt`, `elapsed_time`, `method_name`, `worker_class_name`, `args`, `kwargs`. Where none is named
`result`/`exception`, the first other positional parameter is given it. `**ctx` is given the rest; other parameters
keep their defaults. What has no signature (`bool`, `operator.itemgetter("ok")`) is given the one value.

Called by: `concurry.retry`, when options are compiled; `concurry.runtime.retry_policy`, when they are used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from inspect import Parameter

CONTEXT = ("attempt", "elapsed_time", "method_name", "worker_class_name", "args", "kwargs")


class Check(NamedTuple):
    """`check(known)`: what `fn` says about it. `known` has the keys of `CONTEXT` and `result` or `exception`.

    Attributes:
        positional, named: the keys to give, in order and by name.
        label: what to call it in messages.
    """

    fn: Callable[..., Any]
    label: str
    positional: tuple[str, ...]
    named: tuple[str, ...] = ()

    def __call__(self, known: Mapping[str, Any]) -> bool:
        """Raises whatever the user's function raises, and TypeError where it answers with an awaitable."""
        answer = self.fn(*[known[key] for key in self.positional], **{key: known[key] for key in self.named})
        if hasattr(answer, "__await__"):
            if hasattr(answer, "close"):
                answer.close()  # a coroutine that nobody awaits would warn later, far from here
            raise TypeError(f"{self.label} must answer at once, and returned {type(answer).__name__}, to be awaited")
        return bool(answer)


def compile_check(fn: Callable[..., Any], subject: str) -> Check:
    """Work out how to call `fn` with a `subject`: "result" or "exception".

    Raises:
        ValueError: it cannot be called so; the message says with what it could be.
    """
    import inspect

    label = name_of(fn)
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
        raise ValueError(f"{label} is async; it must be a plain function that answers at once")
    try:
        signature = inspect.signature(fn)
    except (ValueError, TypeError):  # builtins without a signature
        return Check(fn, label, (subject,))
    # What a partial has fixed is fixed, also where it is named like something in the context.
    fixed = fn.keywords if isinstance(fn, functools.partial) else {}
    try:
        positional, named = _places([it for it in signature.parameters.values() if it.name not in fixed], subject)
    except ValueError as error:
        raise ValueError(
            f"{label} cannot be called with the {subject}: {error} (its signature is {signature}). Its parameters may "
            f"be the {subject}, and any of {', '.join(CONTEXT)}, by name or as **ctx"
        ) from None
    return Check(fn, label, positional, tuple(key for key in named if key not in fixed))


def _places(parameters: list[Parameter], subject: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which keys to give in order, and which by name."""
    of_kind: dict[str, list[Parameter]] = {}
    for it in parameters:
        of_kind.setdefault(it.kind.name, []).append(it)
    in_order = of_kind.get("POSITIONAL_ONLY", []) + of_kind.get("POSITIONAL_OR_KEYWORD", [])
    by_name_only = of_kind.get("KEYWORD_ONLY", [])

    gives = {it.name: it.name for it in in_order + by_name_only if it.name in CONTEXT or it.name == subject}
    if subject not in gives:
        first = next((it.name for it in in_order if it.name not in gives), None)
        if first is not None:
            gives[first] = subject

    positional: list[str] = []
    for it in in_order:
        if it.name not in gives:
            break  # its default is kept, so whatever comes after it goes by name
        positional.append(gives[it.name])
    if subject not in gives.values() and "VAR_POSITIONAL" in of_kind and len(positional) == len(in_order):
        positional.append(subject)

    named: list[str] = []
    for it in in_order[len(positional) :] + by_name_only:
        if it.name in gives and it.kind.name != "POSITIONAL_ONLY":
            named.append(it.name)
        elif it.default is it.empty:
            raise ValueError(f"nothing is known for its parameter {it.name!r}")
    if "VAR_KEYWORD" in of_kind:
        named = [key for key in (subject, *CONTEXT) if key not in positional]
    if not (positional or named):
        raise ValueError("it takes nothing")
    return tuple(positional), tuple(named)


def name_of(fn: Callable[..., Any]) -> str:
    """What to call a function in messages; a lambda by its file and line."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    code = getattr(fn, "__code__", None)
    if code is not None and "<lambda>" in name:
        return f"<lambda> ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})"
    return f"{name.replace('<locals>.', '')}()"
