"""`ProgressBar`."""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any

import pytest

import concurry
from concurry.utils.progress import ProgressBar


@pytest.fixture
def file() -> io.StringIO:
    """Where a bar draws."""
    return io.StringIO()


def test_it_is_reachable_in_both_places() -> None:
    assert ProgressBar is concurry.ProgressBar


def test_the_defaults(file: io.StringIO) -> None:
    with ProgressBar(total=3, file=file) as bar:
        assert (bar.unit, bar.color, bar.n, bar.total, bar.disable) == ("row", "#0288d1", 0, 3, False)


def test_all_arguments(file: io.StringIO) -> None:
    bar = ProgressBar(
        [1, 2],
        desc="rows",
        unit="call",
        color="#ff0000",
        style="std",
        total=2,
        ncols=80,
        smoothing=0.3,
        miniters=1,
        disable=False,
        position=0,
        leave=True,
        file=file,
    )
    assert list(bar) == [1, 2]
    assert "rows" in file.getvalue()


@pytest.mark.parametrize(
    "style", ["auto", "std", pytest.param("ray", marks=pytest.mark.leaks("Ray's own bar has tqdm's monitor thread"))]
)
def test_the_styles(style: str, file: io.StringIO) -> None:
    assert list(ProgressBar([1], style=style, file=file)) == [1]


def test_a_number_is_the_total(file: io.StringIO) -> None:
    with ProgressBar(10, file=file) as bar:
        bar.update(4)
        assert (bar.n, bar.total) == (4, 10)


def test_a_position_of_its_own(file: io.StringIO) -> None:
    with ProgressBar(total=2, position=1, file=file) as bar:
        bar.update()
    assert bar.state == "success"


@pytest.mark.parametrize("color", ["MAGENTA", "magenta", "green", "#abc", "#AABBCC"])
def test_colours_by_name(color: str, file: io.StringIO) -> None:
    ProgressBar(total=1, color=color, file=file).close()


def test_a_total_other_than_the_length(file: io.StringIO) -> None:
    bar = ProgressBar([1, 2, 3], total=10, file=file)
    assert bar.total == 10
    assert list(bar) == [1, 2, 3]
    assert bar.state == "success"


def test_a_total_of_nothing(file: io.StringIO) -> None:
    with ProgressBar(total=0, file=file) as bar:
        assert bar.total == 0
    assert list(ProgressBar([], file=file)) == []


def test_updates_from_several_threads(file: io.StringIO) -> None:
    with ProgressBar(total=4000, file=file) as bar:

        def count() -> None:
            for _ in range(1000):
                bar.update()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar.n == 4000


def test_pickling_it_raises(file: io.StringIO) -> None:
    with ProgressBar(total=1, file=file) as bar, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(bar)


def test_everything_that_changes_it(file: io.StringIO) -> None:
    with ProgressBar(total=5, file=file) as bar:
        bar.update(1)
        bar.set_n(2)
        bar.set_total(6)
        bar.set_description("now")
        bar.set_unit("call")
        bar.refresh()
        assert (bar.n, bar.total, bar.desc, bar.unit) == (2, 6, "now", "call")


@pytest.mark.parametrize(("how", "state"), [("success", "success"), ("failure", "failure"), ("stop", "stopped")])
def test_how_it_ends(how: str, state: str, file: io.StringIO) -> None:
    bar = ProgressBar(total=5, file=file)
    getattr(bar, how)("over")
    assert (bar.state, bar.desc) == (state, "over")
    assert "over" in file.getvalue()


def test_a_loop_that_raises_ends_in_failure(file: io.StringIO) -> None:
    bar = ProgressBar(range(3), file=file)

    def loop() -> None:
        for _ in bar:
            raise KeyError

    with pytest.raises(KeyError):
        loop()
    assert bar.state == "failure"


def test_a_disabled_one_draws_nothing(file: io.StringIO) -> None:
    bar: ProgressBar[Any] = ProgressBar([1, 2], disable=True, file=file)
    assert list(bar) == [1, 2]
    assert file.getvalue() == ""


def test_progress_of_gather_with_options(file: io.StringIO) -> None:
    futures = [concurry.SyncFuture(it) for it in range(3)]
    assert concurry.gather(futures, progress={"desc": "calls", "file": file}) == [0, 1, 2]
    assert "calls" in file.getvalue()
