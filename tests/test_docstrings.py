"""Every public function, constructor and method says what it takes, in which unit, what it gives and what it raises.

The reference of the site is made of these docstrings. What counts as public: the names of `concurry.__all__`, and what
a user is handed without naming it (`HANDED`).
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import concurry
from concurry.acquisition import Acquisition
from concurry.config import GlobalConfig
from concurry.handle import Handle
from concurry.task_handle import TaskHandle
from concurry.tasks import Task
from concurry.workers import Launcher

HANDED: dict[str, Any] = {it.__name__: it for it in (Acquisition, GlobalConfig, Launcher, Task, TaskHandle)}
NOT_MADE = {Handle, *HANDED.values()}  # users get these, and never call the class
PUBLIC = {name: getattr(concurry, name) for name in concurry.__all__ if not name.startswith("_")} | HANDED

OBVIOUS = {"None", "bool", "Self", "NoReturn", ""}  # a predicate is a sentence with "Whether"; these give nothing
IN_UNITS = re.compile(r"(^|_)(timeout|seconds?|wait|window|per|delay|size|memory|bytes|s)$")
UNIT = re.compile(r"\b(seconds?|bytes?|how many|calls|columns|whole)\b", re.IGNORECASE)
# A first line that commands says what is done; one that names a thing says what is given.
COMMANDS = re.compile(
    r"(Acquire|Add|Ask|Await|Build|Call|Cancel|Change|Check|Choose|Close|Count|Create|Draw|End|Enter|Find|Get|Give|Go|"
    r"Hand|Have|Keep|Leave|Let|Look|Make|Map|Move|Open|Put|Read|Release|Report|Return|Run|Say|See|Send|Set|Shut|Start|"
    r"Stop|Submit|Take|Tell|Try|Turn|Use|Wait|Wrap|Write)\b"
)


def documented() -> Iterator[tuple[str, Any, str]]:
    """(name, function, the docstrings that speak for it) of everything public that can be called."""
    for name, value in PUBLIC.items():
        if inspect.isclass(value):
            yield from of_class(name, value)
        elif inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ""


def of_class(name: str, cls: type) -> Iterator[tuple[str, Any, str]]:
    if issubclass(cls, enum.Enum) and "__init__" not in vars(cls):
        return
    for member, raw in members(cls).items():
        function = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        function = function.fget if isinstance(function, property) else function
        if not inspect.isfunction(function):
            continue
        doc = inspect.getdoc(function) or inherited(cls, member)
        if member == "__init__" and cls not in NOT_MADE:
            yield name, function, f"{inspect.getdoc(cls) or ''}\n{doc}"
        elif not member.startswith("_"):
            yield f"{name}.{member}", function, doc


def members(cls: type) -> dict[str, Any]:
    """What the class has of its own and of those bases of ours that are not public by themselves."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__:
        if owner.__module__.partition(".")[0] == "concurry" and (owner is cls or owner not in PUBLIC.values()):
            found = {**vars(owner), **found}
    return found


def inherited(cls: type, member: str) -> str:
    """An overridden method may leave the words to the one that it overrides."""
    docs = (inspect.getdoc(vars(owner)[member]) for owner in cls.__mro__[1:] if member in vars(owner))
    return next((doc for doc in docs if doc), "")


EVERYTHING = list(documented())
every = pytest.mark.parametrize(("name", "function", "doc"), EVERYTHING, ids=[name for name, _, _ in EVERYTHING])


def parameters(function: Any) -> list[str]:
    names = [name for name in inspect.signature(function).parameters if not name.startswith("_")]
    # `message` is an error's text, and `known` what its base takes
    return [name for name in names if name not in ("self", "cls", "message", "known")]


def said_of(parameter: str, doc: str) -> str:
    """The entry of a parameter in the docstring, with the lines that belong to it; the whole where it has none."""
    entry = re.search(rf"^( +)[^:\n]*\b{parameter}\b[^:\n]*:(.*(?:\n\1 +.*)*)", doc, flags=re.MULTILINE)
    return entry[2] if entry else doc


def raises(function: Any) -> bool:
    """Whether the function's own lines raise something that they make. One that only passes it on does not count."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    inner = {
        id(it)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node is not tree.body[0]
        for it in ast.walk(node)
    }
    return any(isinstance(node, ast.Raise) and node.exc and id(node) not in inner for node in ast.walk(tree))


@every
def test_says_what_it_does(name: str, function: Any, doc: str) -> None:
    assert doc.strip(), f"{name} has no docstring"


@every
def test_names_each_parameter(name: str, function: Any, doc: str) -> None:
    missing = [it for it in parameters(function) if not re.search(rf"\b{it}\b", doc)]
    assert not missing, f"{name} says nothing of {missing}"


@every
def test_says_the_unit_of_each_number_that_has_one(name: str, function: Any, doc: str) -> None:
    annotated = inspect.signature(function).parameters
    numbers = [it for it in parameters(function) if IN_UNITS.search(it) and annotated[it].annotation != "bool"]
    missing = [it for it in numbers if not UNIT.search(said_of(it, doc))]
    assert not missing, f"{name} does not say what {missing} is counted in"


@every
def test_says_what_it_gives(name: str, function: Any, doc: str) -> None:
    given = str(inspect.signature(function).return_annotation).strip("'")
    given = "" if given == str(inspect.Signature.empty) else given
    if given in OBVIOUS or function.__name__ == "__init__" or re.search(r"^(Returns|Yields):", doc, re.MULTILINE):
        return
    commands = COMMANDS.match(doc.strip())
    assert not commands, f"{name} gives {given}, and has neither `Returns:` nor a first line that names it"


@every
def test_says_what_it_raises(name: str, function: Any, doc: str) -> None:
    if raises(function):
        assert re.search(r"\bRaises\b", doc, re.IGNORECASE), f"{name} raises, and does not say what"


def test_constants_say_what_they_are() -> None:
    """What is no class and no function has its words in the reference's page."""
    others = {name for name, it in PUBLIC.items() if not (inspect.isclass(it) or inspect.isfunction(it))}
    assert others == {"ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "global_config"}
