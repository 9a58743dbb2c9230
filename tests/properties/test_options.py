"""Whatever is said of an option: it is kept, and kept the same when checked again, or refused by name."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from concurry.option_layers import environment_layer
from concurry.options import TABLE, Options, check_one
from concurry.runtime.enums import ExecutionMode

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.decimals(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), st.one_of(st.floats(), st.text(max_size=4))),
    st.sampled_from([object(), ValueError, len, 10**5000, -(10**400), "1" * 5000, *ExecutionMode]),
)
NAMES = st.sampled_from(sorted(TABLE))


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a is b or a == b or (a != a and b != b))


@given(NAMES, ANYTHING)
def test_kept_or_refused_by_name(name: str, value: Any) -> None:
    try:
        kept = check_one(name, value, worker="W")
    except ValueError as error:
        assert str(error).startswith(f"W: {name}=")  # noqa: PT017 - refused or kept, either is good
    else:
        assert same(check_one(name, kept, worker="W"), kept)


LAYER = st.fixed_dictionaries(
    {},
    optional={
        "max_workers": st.one_of(st.none(), st.integers(1, 9)),
        "blocking": st.one_of(st.none(), st.booleans()),
        "mailbox_size": st.one_of(st.none(), st.integers(1, 9)),
        "stop_timeout": st.floats(0, 9),
        "mode": st.one_of(st.none(), st.sampled_from(["thread", "process", "ray"])),
    },
)


@given(st.lists(LAYER, max_size=4))
def test_the_strongest_who_says_something_wins(layers: list[dict[str, Any]]) -> None:
    options = Options.resolve([*layers, {"mode": "thread"}], worker="W")
    for name in ("max_workers", "blocking", "mailbox_size", "stop_timeout", "mode"):
        said = [
            (rank, layer[name])
            for rank, layer in enumerate([*layers, {"mode": "thread"}])
            if name in layer and (layer[name] is not None or name == "mailbox_size")
        ]
        if said:
            assert (options.given[name], getattr(options, name)) == said[0]
        else:
            assert name not in options.given
            assert getattr(options, name) == TABLE[name].default_for(options.mode)


@given(st.dictionaries(st.from_regex(r"CONCURRY_[A-Z_]{0,12}", fullmatch=True) | st.text(max_size=9), st.text()))
def test_no_environment_breaks_the_reading(variables: dict[str, str]) -> None:
    environment_layer(variables)
