"""Every error of ours, in one hierarchy. Users import them from `concurry` (or `concurry.errors`).

They stand on the bottom floor because every floor raises them. Each can be pickled with all it carries, and each
message says who, what, why and what to do.

    ConcurryError
    ├── WorkerError
    │   ├── WorkerDiedError            the actor that held the call is gone
    │   │   └── RestartIntensityError  it died too often to be started again; the call never ran
    │   ├── WorkerStoppedError         (also RuntimeError) the handle was stopped
    │   ├── WorkerInitError            the worker's __init__ could not be carried out
    │   ├── MailboxFullError           a bounded mailbox refused a call
    │   ├── DeadlockError              a wait that could never end
    │   └── ForkedHandleError          a handle used after os.fork()
    ├── RemoteError                    an exception that could not be rebuilt on this side
    │   └── RemoteBaseError            SystemExit, KeyboardInterrupt, ... raised inside a method
    ├── RetryValidationError           retries are used up and no result passed the validators
    ├── MisuseError                    a slip in the program, which no retry policy tries again; DeadlockError is one
    │   ├── LimitStateError            (also RuntimeError) a report that is missing, or comes too late
    │   ├── LimitValueError            (also ValueError) an amount, a usage or a timeout that cannot be
    │   └── LimitTypeError             (also TypeError) amounts that are no mapping
    ├── EncodeError                    an argument or result cannot be sent
    └── ProtocolError                  a frame that no peer of ours would send
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConcurryError",
    "DeadlockError",
    "EncodeError",
    "ForkedHandleError",
    "LimitStateError",
    "LimitTypeError",
    "LimitValueError",
    "MailboxFullError",
    "MisuseError",
    "ProtocolError",
    "RemoteBaseError",
    "RemoteError",
    "RestartIntensityError",
    "RetryValidationError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerInitError",
    "WorkerStoppedError",
]


class ConcurryError(Exception):
    """The root of all errors that concurry itself raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By arguments and __dict__, without running __init__: the subclasses' constructors take other arguments.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[ConcurryError], args: tuple[Any, ...], state: dict[str, Any]) -> ConcurryError:
    error: ConcurryError = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MisuseError(ConcurryError):
    """The library is used in a way that cannot work, such as a limit that is never reported. The next attempt would end
    alike, and what was paid for would be paid for again: so no retry policy tries it again, whatever it says."""


class LimitStateError(MisuseError, RuntimeError):
    """An acquisition was not reported before its block ended, or is used after it was released."""


class LimitValueError(MisuseError, ValueError):
    """What is requested or reported of a limit cannot be: more than the capacity, nothing, no number."""


class LimitTypeError(MisuseError, TypeError):
    """What is requested or reported of limits is no mapping from keys to amounts."""


class WorkerError(ConcurryError):
    """Something is wrong with a worker, not with the call it was given."""


class WorkerDiedError(WorkerError):
    """The actor that held this call is gone.

    Attributes:
        worker: its name and number, such as ``Parser[2]``.
        method: the method that ran, or None where none did.
        pid: its process id, or None for an actor in this process.
        exit_code: the exit code, or None; signal: the signal's name, or None.
        incarnation: how many times this actor had been started before, from 0.
        maybe_executed: False where the call's body certainly never started.
    """

    def __init__(
        self,
        message: str,
        *,
        worker: str = "",
        method: str | None = None,
        pid: int | None = None,
        exit_code: int | None = None,
        signal: str | None = None,
        incarnation: int = 0,
        maybe_executed: bool = True,
    ) -> None:
        super().__init__(message)
        self.worker = worker
        self.method = method
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.incarnation = incarnation
        self.maybe_executed = maybe_executed


class RestartIntensityError(WorkerDiedError):
    """Every actor that could have run this call died more often than `max_restarts` allows; the call never ran."""

    def __init__(self, message: str, **known: Any) -> None:
        known.setdefault("maybe_executed", False)
        super().__init__(message, **known)


class WorkerStoppedError(WorkerError, RuntimeError):
    """The worker or pool was stopped: the call was refused, or it was still waiting and never ran."""


class WorkerInitError(WorkerError):
    """The worker could not be set up: its `__init__` took longer than `init_timeout`, or ended without an exception
    that can be shown."""


class MailboxFullError(WorkerError):
    """The mailbox holds `mailbox_size` calls and `on_full="raise"`, or the caller is one that must never block."""


class DeadlockError(WorkerError, MisuseError):
    """A wait that could never end: for a call that waits, directly or through others, for the one who waits; or for
    limits that the waiting thread itself holds."""


class ForkedHandleError(WorkerError):
    """A handle was used in a forked child: the actors live in the parent. Create a new worker in the child."""


class RemoteError(ConcurryError):
    """An exception of a worker that cannot be rebuilt here.

    Attributes:
        type_name: the qualified name of its type; message: its text; traceback: its traceback as text.
    """

    def __init__(self, message: str, *, type_name: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class RemoteBaseError(RemoteError):
    """A method raised `SystemExit`, `KeyboardInterrupt`, `GeneratorExit` or another exception that is not an
    `Exception`. It ended its call only; the original is `__cause__` where it can be had."""


class RetryValidationError(ConcurryError):
    """Every attempt returned, and no result passed `retry_until`.

    Attributes:
        attempts: how many attempts were made; all_results: their results, in order.
        validation_errors: why each was refused, as text; method_name: the method.
    """

    def __init__(
        self,
        message: str = "",
        *,
        attempts: int = 0,
        all_results: list[Any] | None = None,
        validation_errors: list[str] | None = None,
        method_name: str = "",
    ) -> None:
        self.attempts = attempts
        self.all_results = list(all_results or [])
        self.validation_errors = list(validation_errors or [])
        self.method_name = method_name
        super().__init__(
            message
            or f"{method_name}() returned {attempts} times and no result passed retry_until: "
            f"{'; '.join(self.validation_errors)}"
        )


class EncodeError(ConcurryError):
    """An argument or a result cannot be sent to another process."""


class ProtocolError(ConcurryError):
    """A message that is not one of ours."""


for _name in __all__:
    # Tracebacks and pickles name the public module, which outlives any move of this file.
    globals()[_name].__module__ = "concurry.errors"
