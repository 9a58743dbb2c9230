"""Exceptions there and back, as whole as they can be.

    describe(error, who) -> bytes    where it was raised      a pickle of plain data: one record for each exception that
    rebuild(bytes) -> exception      in the reader's thread   it is tied to, and the traceback's text

    record: (type name, text, class, whole, parts, notes, cause, context, suppressed, members), see `_Record`

Guarantees: type, args, `__dict__`, notes, the members of a group, `__cause__`, `__context__` and `__suppress_context__`
arrive. No constructor of a user's runs, since an exception's `args` are seldom what its `__init__` takes: `__new__` and
`__init__` of its builtin base make it, and its state is put back. Only a class that says itself how it is pickled is
asked first. What cannot be sent in it arrives as its repr, with a note; what cannot be rebuilt at all, as RemoteError.
The traceback's text hangs at the end of what a traceback prints, as the cause of the last (see `_attach`).
Neither function raises an Exception, whatever a user's hooks do; nothing here recurses along a chain, and one of more
than `LONGEST` exceptions is cut.
Called by: `codec`.
"""

from __future__ import annotations

import copyreg
import pickle
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple

from concurry.transports import codec_pickle
from concurry.transports.anything import LIST, type_of
from concurry.transports.ctrl_c import ctrl_c
from concurry.transports.errors import RemoteBaseError, RemoteError

LONGEST: Final = 1000  # exceptions
LARGEST: Final = 16 * 1024 * 1024  # bytes; nothing goes beside a failure, so it must fit into any wire's message
_SHOWN: Final = 64  # exceptions; a longer chain is shown without its causes
_LONG_TEXT: Final = 64 * 1024  # characters of a traceback, of a message

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not set for the types that the interpreter itself is made of
_HOOKS: Final = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
_NOT_SENT: Final = frozenset(  # members that are handled apart, and AttributeError.obj, which can be anything
    {(BaseException, "__suppress_context__"), (AttributeError, "obj")}
    | {(BaseExceptionGroup, name) for name in ("message", "exceptions")}
)
# Taken from BaseException itself: a frozen dataclass refuses `__cause__ =`, a property can stand in front of `args`.
_args: Any = BaseException.__dict__["args"]
_cause: Any = BaseException.__dict__["__cause__"]
_context: Any = BaseException.__dict__["__context__"]
_suppressed: Any = BaseException.__dict__["__suppress_context__"]
_dict: Any = BaseException.__dict__["__dict__"]
_group_members: Any = BaseExceptionGroup.__dict__["exceptions"]
_group_message: Any = BaseExceptionGroup.__dict__["message"]


class RemoteTraceback(Exception):
    """The traceback of an exception where it was raised, as text: the cause of the exception that arrived."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class _Record(NamedTuple):
    """One exception. Strings, bytes, numbers: nothing that could fail to be unpickled."""

    type_name: str
    message: str
    kind: bytes | None  # its class, pickled
    whole: bytes | None  # itself, pickled as its class wants it
    parts: bytes | None  # (args, __dict__, slots), pickled
    notes: list[str] | None
    cause: int | None
    context: int | None
    suppressed: bool
    members: list[int] | None  # of a group
    is_exception: bool


def brief(error: BaseException) -> str:
    """`Type: text`, whatever its `__str__` does."""
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# -- there ------------------------------------------------------------------------------------------------------------


def describe(error: BaseException, who: str) -> bytes:
    """What `rebuild` makes the exception from, LARGEST bytes at most. Never raises an Exception."""
    try:
        chain = _collected(error)
        numbers = {id(one): number for number, one in enumerate(chain)}
        kinds: dict[type, bytes | None] = {}
        records = [_record(one, numbers, kinds) for one in chain]
        text = _traceback(error, len(chain))
        body = _body(who, text, records)
        if len(body) > LARGEST:
            body = _body(who, text, [record._replace(whole=None, parts=None) for record in records])
        if len(body) <= LARGEST:
            return body
        why = f"({len(records)} exceptions of {len(body)} bytes are too much to send)\n"
    except ctrl_c():
        raise
    except BaseException as failed:  # out of memory, or a class whose very name raises: then its text
        why = f"(it could not be described: {brief(failed)})\n"
    return _body(who, why, [_Record("exception", _text(error), None, None, None, None, None, None, False, None, True)])


def _body(who: str, text: str, records: list[_Record]) -> bytes:
    return pickle.dumps((who, text, [tuple(record) for record in records]), 5)


def _collected(error: BaseException) -> list[BaseException]:
    """The exception and all it is tied to, nearest first, each once, at most LONGEST."""
    found, seen = [error], {id(error)}
    for one in found:  # which grows meanwhile
        for tied in (_shown_cause(one), _context.__get__(one), *(_members(one) or ())):
            if tied is not None and id(tied) not in seen and len(found) < LONGEST:
                seen.add(id(tied))
                found.append(tied)
    return found


def _shown_cause(error: BaseException) -> BaseException | None:
    """Its cause, without the text of an earlier journey: the new text has it in it."""
    cause: BaseException | None = _cause.__get__(error)
    return None if type(cause) is RemoteTraceback else cause


def _members(error: BaseException) -> tuple[BaseException, ...] | None:
    return _group_members.__get__(error) if issubclass(type(error), BaseExceptionGroup) else None


def _record(error: BaseException, numbers: dict[int, int], kinds: dict[type, bytes | None]) -> _Record:
    kind = type(error)
    if kind not in kinds:
        kinds[kind] = _pickled(kind)
    state = dict(_dict.__get__(error))
    notes = state.get("__notes__")
    if notes is not None and type(notes) is LIST and all(type(note) is str for note in notes):
        del state["__notes__"]
    else:
        notes = None
    args: Any = _args.__get__(error)
    members = _members(error)
    if members is not None:
        members = tuple(member for member in members if id(member) in numbers)  # those that were not cut off
        args = (_group_message.__get__(error),)
    parts, lost = _parts(args, state, _slots(error))
    if lost:
        notes = [*(notes or ()), *lost]
    cause, context = _shown_cause(error), _context.__get__(error)
    return _Record(
        type_name=_type_name(kind),
        message=_text(error),
        kind=kinds[kind],
        whole=_pickled(error) if _has_hooks(kind) else None,
        parts=parts,
        notes=notes,
        cause=numbers.get(id(cause)),
        context=numbers.get(id(context)),
        suppressed=_suppressed.__get__(error),
        members=None if members is None else [numbers[id(member)] for member in members],
        is_exception=issubclass(kind, Exception),
    )


def _has_hooks(kind: type) -> bool:
    """Whether its class, or one above it that is no builtin, says how it is pickled."""
    if kind in copyreg.dispatch_table:
        return True
    for name in _HOOKS:
        owner = next((above for above in kind.__mro__ if name in above.__dict__), object)
        if owner.__module__ != "builtins":
            return True
    return False


def _slots(error: BaseException) -> dict[str, Any]:
    """What it holds outside of args and `__dict__`: `__slots__`, the name of an ImportError, a SyntaxError's line."""
    held: dict[str, Any] = {}
    for above in type(error).__mro__:
        for name, descriptor in above.__dict__.items():
            if isinstance(descriptor, MemberDescriptorType) and (above, name) not in _NOT_SENT:
                try:
                    value = descriptor.__get__(error)
                except AttributeError:
                    continue  # a slot that nothing was put in
                if value is not None:
                    held[name] = value
    return held


def _pickled(value: Any) -> bytes | None:
    """None where it cannot be pickled, or not be unpickled even here."""
    try:
        stream = codec_pickle.dump_alone(value)
        codec_pickle.load(stream, None)
    except ctrl_c():
        raise
    except BaseException:  # a user's hook may raise anything
        return None
    return stream


def _parts(args: Any, state: dict[str, Any], slots: dict[str, Any]) -> tuple[bytes | None, list[str]]:
    """Its parts pickled, and a note for everything in them that cannot be sent: its repr stands for it."""
    whole = _pickled((args, state, slots))
    if whole is not None:
        return whole, []
    lost: list[str] = []

    def sent(where: str, value: Any) -> Any:
        if _pickled(value) is not None:
            return value
        lost.append(f"{where} could not be sent to another process: this is the repr of a {_type_name(type_of(value))}")
        return _repr(value)

    args = tuple([sent(f"args[{place}]", value) for place, value in enumerate(args)])
    state, slots = ({name: sent(f".{name}", value) for name, value in held.items()} for held in (state, slots))
    return _pickled((args, state, slots)), lost


def _traceback(error: BaseException, length: int) -> str:
    from traceback import format_exception, format_tb

    try:
        if length <= _SHOWN:
            text = "".join(format_exception(error))
        else:  # format_exception(chain=False) walks along the whole chain, too
            text = f"Traceback (most recent call last):\n{''.join(format_tb(error.__traceback__))}{brief(error)}\n"
            text += f"(It is tied to {length - 1} more exceptions{', at least' if length == LONGEST else ''}.)\n"
    except ctrl_c():
        raise
    except BaseException as failed:  # a property or a __str__ of the user's
        return f"(the traceback of {brief(error)} cannot be shown: {brief(failed)})\n"
    if len(text) > _LONG_TEXT:
        text = f"{text[: _LONG_TEXT // 2]}\n[...]\n{text[-_LONG_TEXT // 2 :]}"
    return text


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str.__str__(str(error))[:_LONG_TEXT]
    except ctrl_c():
        raise
    except BaseException as failed:
        return f"(its text cannot be had: {type(failed).__name__})"


def _repr(value: Any) -> str:
    try:
        return str.__str__(repr(value))[:_LONG_TEXT]
    except ctrl_c():
        raise
    except BaseException:
        return object.__repr__(value)


# -- and back ---------------------------------------------------------------------------------------------------------


def rebuild(body: Any) -> BaseException:
    """The exception, or a RemoteError where that cannot be. Never raises an Exception."""
    try:
        who, text, described = pickle.loads(body)
        records = [_Record(*record) for record in described]
        made = _all_made(records, who, text)
        for record, error in zip(records, made, strict=True):
            _tie(error, record, made)
        _attach(made[0], text)
        return made[0]
    except ctrl_c():
        raise
    except BaseException as failed:
        return RemoteError(f"a worker's exception arrived that cannot be read: {brief(failed)}")


def _all_made(records: list[_Record], who: str, text: str) -> list[BaseException]:
    """One exception for each record, the members of a group before the group."""
    made: dict[int, BaseException] = {}
    kinds: dict[bytes, Any] = {}
    waiting = list(range(len(records)))
    while waiting:
        record = records[waiting[-1]]
        missing = [member for member in record.members or () if member not in made]
        if missing:
            waiting += missing
            continue
        number = waiting.pop()
        if number not in made:
            made[number] = _made(record, [made[member] for member in record.members or ()], kinds, who, text)
    return [made[number] for number in range(len(records))]


def _made(record: _Record, members: list[BaseException], kinds: dict[bytes, Any], who: str, text: str) -> BaseException:
    error: BaseException | None = None
    notes: list[str] = []
    why = "its class cannot be sent to another process"
    try:
        if record.kind is not None:
            if record.kind not in kinds:
                kinds[record.kind] = codec_pickle.load(record.kind, None)
            kind = kinds[record.kind]
            error = _whole(record.whole, kind)
            if error is None:
                error = _from_parts(record, kind, members, notes)
    except ctrl_c():
        raise
    except BaseException as failed:
        why = brief(failed)
    if error is None:
        remote = RemoteError if record.is_exception else RemoteBaseError
        said = f"{who} raised {record.type_name}{record.message and ': '}{record.message}"
        error = remote(said, type_name=record.type_name, traceback=text)
        error.message = record.message
        notes = [f"It is no {record.type_name.rpartition('.')[2]}, which could not be rebuilt here: {why}"]
    if record.notes is not None or notes:
        _dict.__get__(error)["__notes__"] = [*(record.notes or ()), *notes]
    return error


def _whole(stream: bytes | None, kind: Any) -> BaseException | None:
    """As its class wants it, if that makes what it says."""
    if stream is None:
        return None
    try:
        error = codec_pickle.load(stream, None)
    except ctrl_c():
        raise
    except BaseException:  # then from its parts
        return None
    return error if type(error) is kind else None


def _from_parts(record: _Record, kind: Any, members: list[BaseException], notes: list[str]) -> BaseException:
    args: tuple[Any, ...] = (record.message,)
    state: dict[str, Any] = {}
    slots: dict[str, Any] = {}
    try:
        if record.parts is not None:
            args, state, slots = codec_pickle.load(record.parts, None)
        else:
            notes.append("Only its text is here: its arguments are too large, or cannot be pickled")
    except ctrl_c():
        raise
    except BaseException as failed:
        notes.append(f"Only its text is here: its arguments could not be rebuilt: {brief(failed)}")
    error: BaseException
    if record.members is not None:
        error = BaseExceptionGroup.__new__(kind, args[0], members)
    else:
        base = kind
        while base.__flags__ & _HEAP_TYPE:
            base = base.__base__
        error = base.__new__(kind, *args)
        try:
            base.__init__(error, *args)  # a UnicodeError and a SyntaxError take their arguments here
        except (TypeError, ValueError) as failed:
            notes.append(f"Its args are not those of {base.__name__}: {failed}")
        _args.__set__(error, args)  # an OSError keeps two of three, and its file name apart
    # Neither through the user's `__setattr__`, which may refuse, nor through a property, which may compute.
    _dict.__get__(error).update(state)
    for name, value in slots.items():
        object.__setattr__(error, name, value)
    return error


def _tie(error: BaseException, record: _Record, made: list[BaseException]) -> None:
    if record.cause is not None:
        _cause.__set__(error, made[record.cause])
    if record.context is not None:
        _context.__set__(error, made[record.context])
    _suppressed.__set__(error, record.suppressed)  # last, since a cause sets it


def _attach(error: BaseException, text: str) -> None:
    """Hang the text at the end of what a traceback prints: along causes, and contexts that are shown. There it hides
    nothing, and is printed first, as it came first."""
    last, seen = error, {id(error)}
    while True:
        cause = _cause.__get__(last)
        following = _context.__get__(last) if cause is None and not _suppressed.__get__(last) else cause
        if following is None or id(following) in seen:
            break
        seen.add(id(following))
        last = following
    if cause is not None:  # a circle of causes has no end
        _dict.__get__(error).setdefault("__notes__", []).append(f"Where it was raised:\n{text}")
        return
    suppressed = _suppressed.__get__(last)
    _cause.__set__(last, RemoteTraceback(text))
    _suppressed.__set__(last, suppressed)
