"""What a bar counts, says and refuses; where colours matter, on a stream that says it is a terminal."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, assert_type

import pytest

from concurry.config import temp_config
from concurry.progress import _OWN, _TQDM, ProgressBar

BLUE, GREEN, RED, GREY = (f"\x1b[38;2;{rgb}m" for rgb in ("2;136;209", "67;160;71", "229;57;53", "117;117;117"))


# -- iterating --------------------------------------------------------------------------------------------------------


def test_a_loop_sees_every_item_and_ends_in_success(screen: Any) -> None:
    bar = ProgressBar([3, 1, 2], desc="rate", file=screen)
    assert (bar.state, bar.total, bar.color) == ("running", 3, "#0288d1")
    assert list(bar) == [3, 1, 2]
    assert (bar.state, bar.n) == ("success", 3)
    assert screen.getvalue().count(BLUE) == 1
    assert "rate: 100%" in screen.last
    assert "3/3" in screen.last
    assert "row/s" in screen.last
    assert GREEN in screen.last
    assert screen.getvalue().endswith("\n")


def test_break_ends_in_grey(screen: Any) -> None:
    bar = ProgressBar(range(10), file=screen)
    for item in bar:
        if item == 4:
            break
    assert (bar.state, bar.n) == ("stopped", 4)
    assert GREY in screen.last


def test_return_in_the_loop_ends_in_grey(screen: Any) -> None:
    bar = ProgressBar(range(10), file=screen)

    def find(wanted: int) -> int | None:
        for item in bar:
            if item == wanted:
                return item
        return None

    assert find(4) == 4
    assert bar.state == "stopped"


class Boom(Exception):
    pass


def _raise() -> None:
    raise Boom


def raises_in_a_call(bar: ProgressBar[int]) -> None:
    for _ in bar:
        _raise()


def raises_by_itself(bar: ProgressBar[int]) -> None:
    for _ in bar:
        raise Boom


def raises_in_an_operation(bar: ProgressBar[int]) -> None:
    class Odd:
        def __add__(self, other: object) -> int:
            raise Boom

    for item in bar:
        _ = Odd() + item


def raises_under_with_and_finally(bar: ProgressBar[int]) -> None:
    for _ in bar:
        try:
            with threading.Lock():
                _raise()
        finally:
            threading.Lock()


def raises_and_catches_around_the_loop(bar: ProgressBar[int]) -> None:
    error: Boom | None = None
    try:
        for _ in bar:
            _raise()
    except Boom as caught:
        error = caught
    assert bar.state == "failure"  # known before the loop's function goes on
    assert error is not None
    raise error


def raises_while_another_is_handled(bar: ProgressBar[int]) -> None:
    try:
        raise KeyError
    except KeyError:
        for _ in bar:
            _raise()


def raises_in_a_zipped_loop(bar: ProgressBar[int]) -> None:
    for _ in zip(bar, range(10), strict=False):
        _raise()


def raises_through_a_generator(bar: ProgressBar[int]) -> None:
    def squares() -> Iterator[int]:
        yield from (item * item for item in bar)

    for _ in squares():
        _raise()


def raises_in_a_comprehension(bar: ProgressBar[int]) -> None:
    [_raise() for _ in bar]  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "loop",
    [
        raises_in_a_call,
        raises_by_itself,
        raises_in_an_operation,
        raises_under_with_and_finally,
        raises_and_catches_around_the_loop,
        raises_while_another_is_handled,
        raises_in_a_zipped_loop,
        raises_through_a_generator,
        pytest.param(
            raises_in_a_comprehension,
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12),
                reason="a comprehension is a function there, whose argument lives as long as the traceback",
            ),
        ),
    ],
)
def test_a_loop_whose_body_raises_ends_in_red(loop: Callable[[ProgressBar[int]], None], screen: Any) -> None:
    bar = ProgressBar(range(10), file=screen)
    with pytest.raises(Boom):
        loop(bar)
    assert (bar.state, bar.n) == ("failure", 0)
    assert RED in screen.last


def breaks_under_with(bar: ProgressBar[int]) -> None:
    for _ in bar:
        with threading.Lock():
            break


def breaks_after_an_error_was_caught(bar: ProgressBar[int]) -> None:
    kept = []
    for item in bar:
        try:
            _raise()
        except Boom as error:
            kept.append(error)  # its traceback names this frame
        if item == 3:
            break


def is_closed(bar: ProgressBar[int]) -> None:
    items = iter(bar)
    next(items)
    items.close()  # type: ignore[attr-defined]


def is_dropped(bar: ProgressBar[int]) -> None:
    items = iter(bar)
    next(items)
    del items


def is_dropped_by_a_call(bar: ProgressBar[int]) -> None:
    from itertools import islice

    assert list(islice(bar, 2)) == [0, 1]


def is_dropped_by_a_shorter_partner(bar: ProgressBar[int]) -> None:
    assert len(list(zip(bar, range(3), strict=False))) == 3


@pytest.mark.parametrize(
    "loop",
    [
        breaks_under_with,
        breaks_after_an_error_was_caught,
        is_closed,
        is_dropped,
        is_dropped_by_a_call,
        is_dropped_by_a_shorter_partner,
    ],
)
def test_a_loop_that_is_left_without_an_error_ends_in_grey(
    loop: Callable[[ProgressBar[int]], None], screen: Any
) -> None:
    bar = ProgressBar(range(10), file=screen)
    loop(bar)
    assert bar.state == "stopped"
    assert GREY in screen.last


def test_an_iterable_that_raises_ends_in_red(screen: Any) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Boom

    bar = ProgressBar(items(), file=screen)
    seen: list[int] = []
    with pytest.raises(Boom):
        seen.extend(bar)
    assert (seen, bar.state) == ([1], "failure")


def test_a_generator_has_no_length_and_is_full_at_the_end(screen: Any) -> None:
    bar = ProgressBar((item for item in range(5)), file=screen)
    assert bar.total is None
    assert "0row" in screen.last
    assert screen.last.startswith(BLUE)  # there is no bar: the line has the colour
    assert list(bar) == [0, 1, 2, 3, 4]
    assert "100%" in screen.last
    assert "5/5" in screen.last
    assert GREEN in screen.last
    assert bar.total is None


def test_a_generator_that_fails_colours_the_line(screen: Any) -> None:
    bar = ProgressBar(iter(range(5)), desc="a", file=screen)
    with pytest.raises(Boom):
        raises_in_a_call(bar)
    assert screen.last.startswith(RED)
    assert "a: 0row" in screen.last


@pytest.mark.parametrize(("total", "shown"), [(3, "5/5"), (10, "5/10"), (0, "5/5"), (5.0, "5/5.0")])
def test_a_total_other_than_the_length(total: float, shown: str, screen: Any) -> None:
    bar = ProgressBar(range(5), total=total, file=screen)
    assert bar.total == total
    assert len(list(bar)) == 5
    assert (bar.state, bar.total) == ("success", total)
    assert shown in screen.last


def test_an_empty_iterable_succeeds(screen: Any) -> None:
    bar: ProgressBar[int] = ProgressBar([], file=screen)
    assert list(bar) == []
    assert bar.state == "success"
    assert screen.last.startswith(GREEN)


def test_a_second_loop_draws_nothing_more(screen: Any) -> None:
    bar = ProgressBar([1, 2], file=screen)
    assert list(bar) == [1, 2]
    drawn = screen.getvalue()
    assert list(bar) == [1, 2]
    assert (screen.getvalue(), bar.n) == (drawn, 2)


def test_a_bar_without_an_iterable_cannot_be_iterated(screen: Any) -> None:
    with ProgressBar(5, file=screen) as bar, pytest.raises(TypeError, match=r"move it by update\(\)"):
        iter(bar)


# -- moving it by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(10,), (10.0,), (None, "x", 10)])
def test_a_number_is_the_total(arguments: Any, screen: Any) -> None:
    with ProgressBar(*arguments, file=screen) as bar:
        bar.update(4)
        bar.update()
        assert (bar.n, bar.total) == (5, 10)
    assert bar.state == "success"
    assert "5/10" in screen.last
    assert GREEN in screen.last


def test_numbers_of_numpy(screen: Any) -> None:
    numpy = pytest.importorskip("numpy")
    with ProgressBar(numpy.int64(3), file=screen) as bar:
        bar.update(numpy.int32(3))
    assert "3/3" in screen.last
    assert len(list(ProgressBar(numpy.arange(4), file=screen))) == 4


def test_total_zero(screen: Any) -> None:
    with ProgressBar(total=0, file=screen) as bar:
        assert bar.total == 0
    assert bar.state == "success"
    assert "0row" in screen.last


def test_setters(screen: Any) -> None:
    bar = ProgressBar(total=10, desc="a", file=screen)
    bar.set_n(7)
    assert (bar.n, "7/10" in screen.last) == (7, True)
    bar.set_n(2)
    assert "2/10" in screen.last
    bar.set_total(4)
    assert "50%" in screen.last
    bar.set_total(None)
    assert "2row" in screen.last
    bar.set_total(4)
    bar.set_description("b")
    assert screen.last.startswith("b:")
    bar.set_unit("prompt")
    assert "prompt/s" in screen.last
    bar.set_postfix(cost=3)
    assert "cost=3" in screen.last
    bar.set_description("quiet", refresh=False)
    assert screen.last.startswith("b:")
    bar.refresh()
    assert screen.last.startswith("quiet:")
    assert (bar.desc, bar.unit, bar.total) == ("quiet", "prompt", 4)
    bar.close()


@pytest.mark.parametrize(
    ("end", "state", "color"), [("success", "success", GREEN), ("failure", "failure", RED), ("stop", "stopped", GREY)]
)
def test_the_first_end_holds(end: str, state: str, color: str, screen: Any) -> None:
    with ProgressBar(total=10, desc="a", file=screen) as bar:
        bar.update(2)
        getattr(bar, end)("done with it")
        assert color in screen.last
        assert screen.last.startswith("done with it:")
        drawn = screen.getvalue()
        # all of these come too late, as they may from another thread
        bar.update(5)
        bar.set_n(9)
        bar.set_total(20)
        bar.set_description("b")
        bar.set_unit("c")
        bar.set_postfix(d=1)
        bar.refresh()
        bar.success()
        bar.failure("e")
        bar.stop()
        bar.close()
    assert (bar.state, bar.n, bar.total, bar.desc, bar.unit) == (state, 2, 10, "done with it", "row")
    assert screen.getvalue() == drawn


@pytest.mark.parametrize(("total", "n", "state"), [(3, 3, "success"), (3, 4, "success"), (3, 2, "stopped")])
def test_close_looks_at_the_total(total: int, n: int, state: str, screen: Any) -> None:
    bar = ProgressBar(total=total, file=screen)
    bar.update(n)
    bar.close()
    assert bar.state == state


def test_close_without_a_total(screen: Any) -> None:
    bar = ProgressBar(file=screen)
    bar.update(3)
    bar.close()
    assert bar.state == "stopped"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_ends_in_red(error: type[BaseException], screen: Any) -> None:
    with pytest.raises(error), ProgressBar(total=3, file=screen) as bar:
        raise error
    assert bar.state == "failure"
    assert RED in screen.last


def test_a_generator_that_is_closed_inside_the_block_ends_in_grey(screen: Any) -> None:
    bar = ProgressBar(total=3, file=screen)

    def steps() -> Iterator[int]:
        with bar:
            yield 1

    it = steps()
    next(it)
    it.close()  # type: ignore[attr-defined]
    assert bar.state == "stopped"


def test_updates_from_many_threads_are_all_counted(screen: Any) -> None:
    bar = ProgressBar(total=8 * 500, file=screen, mininterval=0)
    start = threading.Barrier(8)
    switch = sys.getswitchinterval()

    def count() -> None:
        start.wait()
        for _ in range(500):
            bar.update()

    threads = [threading.Thread(target=count) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert bar.n == 4000
    bar.close()
    assert "4000/4000" in screen.last


def test_an_end_from_another_thread_while_the_loop_runs(screen: Any) -> None:
    bar = ProgressBar(range(5), file=screen)
    for item in bar:
        if item == 2:
            thread = threading.Thread(target=bar.failure, args=("lost",))
            thread.start()
            thread.join()
    assert (bar.state, bar.n) == ("failure", 2)


def test_types(screen: Any) -> None:
    for item in ProgressBar([1, 2], desc="a", leave=False, file=screen):
        assert_type(item, int)
    for text in ProgressBar(iterable=map(str, range(2)), style="std", file=screen):
        assert_type(text, str)
    with ProgressBar(total=2, position=0, color="MAGENTA", file=screen) as bar:
        assert_type(bar, ProgressBar[Any])


# -- keywords ---------------------------------------------------------------------------------------------------------


def test_the_keywords_are_tqdms() -> None:
    import inspect

    from tqdm.std import tqdm

    theirs = set(inspect.signature(inspect.unwrap(tqdm.__init__)).parameters) - {"self", "kwargs", "gui"}
    assert theirs | {"display"} == {*_OWN, *_TQDM} - {"color", "style"}
    assert set(_OWN) < set(inspect.signature(ProgressBar).parameters)


@pytest.mark.parametrize(
    ("name", "near"), [("totl", "total"), ("colr", "color"), ("leav", "leave"), ("posix", "postfix")]
)
@pytest.mark.parametrize("disable", [False, True])
def test_an_unknown_keyword_names_the_nearest(name: str, near: str, disable: bool) -> None:
    with pytest.raises(TypeError, match=f"unknown keyword '{name}'; did you mean '{near}'"):
        ProgressBar(total=3, disable=disable, **{name: 1})  # type: ignore[call-overload]


@pytest.mark.parametrize("total", ["many", [3], object()])
@pytest.mark.parametrize("disable", [False, True])
def test_a_total_that_is_no_number_is_refused(total: Any, disable: bool) -> None:
    with pytest.raises(TypeError, match=r"ProgressBar: total=.* is refused: it must be a number, or None"):
        ProgressBar(total=total, disable=disable)
    with ProgressBar(total=3, disable=True) as bar:
        with pytest.raises(TypeError, match=r"ProgressBar: total=.* is refused: it must be a number, or None"):
            bar.set_total(total)
        assert bar.total == 3


def test_tqdms_keywords_pass(screen: Any) -> None:
    bar = ProgressBar(
        iterable=range(3),
        desc="a",
        leave=False,
        file=screen,
        mininterval=0,
        maxinterval=1,
        ascii=True,
        unit_scale=True,
        unit_divisor=1024,
        bar_format="{desc}|{bar}|{n_fmt}",
        initial=2,
        position=0,
        postfix={"x": 1},
        nrows=10,
        delay=0,
        lock_args=None,
    )
    assert bar.n == 2
    assert list(bar) == [0, 1, 2]
    assert screen.getvalue().endswith("\r")  # leave=False: the line is clear again
    assert "█" not in screen.getvalue()


def test_positions(screen: Any) -> None:
    with ProgressBar(2, file=screen, position=0) as outer:
        for _ in ProgressBar(range(2), file=screen, position=1, leave=False):
            outer.update()
    assert outer.state == "success"


@pytest.mark.parametrize(
    ("color", "kept", "escape"),
    [
        ("MAGENTA", "magenta", "\x1b[35m"),
        ("green", "green", "\x1b[32m"),
        ("#ABC", "#aabbcc", "\x1b[38;2;170;187;204m"),
        (" #00ff00 ", "#00ff00", "\x1b[38;2;0;255;0m"),
        ("grey", "#757575", GREY),
    ],
)
def test_colours(color: str, kept: str, escape: str, screen: Any) -> None:
    bar = ProgressBar(total=2, color=color, file=screen)
    assert (bar.color, escape in screen.last) == (kept, True)
    bar.close()
    screen.truncate(0)
    with ProgressBar(total=2, colour=color, file=screen):
        assert escape in screen.last


def test_no_colour_while_it_runs(screen: Any) -> None:
    with ProgressBar(total=2, color=None, file=screen):
        assert "\x1b" not in screen.last
    assert GREEN in screen.last


@pytest.mark.parametrize("color", ["magneta", "#12", "#gggggg", "", 7])
def test_bad_colours(color: Any) -> None:
    with pytest.raises(ValueError, match="color="):
        ProgressBar(total=2, color=color)
    with pytest.raises(ValueError, match="did you mean 'magenta'"):
        ProgressBar(total=2, color="magneta")


def test_bad_styles_and_iterables() -> None:
    with pytest.raises(ValueError, match="did you mean 'notebook'"):
        ProgressBar(total=2, style="notebok")
    with pytest.raises(TypeError, match="an iterable or a number, and got object"):
        ProgressBar(object())  # type: ignore[call-overload]


def test_pickling_and_copying_raise(screen: Any) -> None:
    with ProgressBar(total=2, file=screen) as bar:
        for act in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="a ProgressBar cannot be pickled or copied"):
                act(bar)


# -- where it is drawn ------------------------------------------------------------------------------------------------


def test_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in ProgressBar(range(3), desc="a"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert "a: 100%" in err
    assert "\x1b" not in err  # no terminal: no colours
    assert err.endswith("\n")


def test_no_residue_in_a_file() -> None:
    file = io.StringIO()
    with ProgressBar(3, file=file, leave=False) as bar:
        bar.update()
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_disable_none_draws_in_terminals_only(screen: Any) -> None:
    file = io.StringIO()
    assert list(ProgressBar(range(3), file=file, disable=None)) == [0, 1, 2]
    assert file.getvalue() == ""
    assert list(ProgressBar(range(3), file=screen, disable=None)) == [0, 1, 2]
    assert screen.getvalue() != ""


def test_no_console_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    bar = ProgressBar(range(3))
    assert list(bar) == [0, 1, 2]
    assert bar.disable


def test_tqdms_own_switch(monkeypatch: pytest.MonkeyPatch, screen: Any) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    code = "from concurry.progress import ProgressBar\nassert list(ProgressBar([1])) == [1]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_disabled_costs_nothing(screen: Any) -> None:
    items = [1, 2]
    bar = ProgressBar(items, disable=True, file=screen)
    assert type(iter(bar)) is type(iter(items))  # the loop is the plain one
    bar.update()
    bar.set_n(3)
    bar.set_description("x")
    with bar:
        pass
    assert (bar.disable, bar.n, bar.total, screen.getvalue()) == (True, 0, 2, "")


def test_tqdm_is_imported_by_the_first_bar_that_is_drawn() -> None:
    code = """if True:
        import sys, threading
        from concurry.utils.progress import ProgressBar
        list(ProgressBar(range(3), disable=True))
        assert not any(name.partition(".")[0] == "tqdm" for name in sys.modules)
        list(ProgressBar(range(3)))
        assert "tqdm" in sys.modules
        assert threading.active_count() == 1                  # no monitor
        assert "multiprocessing.synchronize" not in sys.modules   # no semaphore
        import tqdm
        assert tqdm.tqdm.monitor_interval == 10
        assert "_lock" not in vars(tqdm.tqdm)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "3/3" in done.stderr
    assert "Error" not in done.stderr


def test_the_users_own_bars_beside_ours(screen: Any) -> None:
    from tqdm.std import tqdm

    lock = threading.RLock()
    before = vars(tqdm).get("_lock")
    tqdm.set_lock(lock)
    try:
        with ProgressBar(2, file=screen) as ours:
            assert ours._drawing._lock is lock  # type: ignore[union-attr]
            theirs = type("Theirs", (tqdm,), {"monitor_interval": 0})(total=2, file=screen)
            assert theirs.pos == -1 or theirs.pos == 1  # the line below ours
            theirs.close()
    finally:
        if before is None:
            del tqdm._lock  # pyright: ignore[reportAttributeAccessIssue]
        else:
            tqdm.set_lock(before)


def test_the_configuration_gives_the_defaults(screen: Any) -> None:
    with temp_config(global_progress_bar_ncols=40, global_progress_bar_smoothing=0.5, global_progress_bar_miniters=2):
        bar = ProgressBar(10, color=None, file=screen)
        said = ProgressBar(10, file=screen, ncols=50, smoothing=0, miniters=3)
    drawing, other = bar._drawing, said._drawing
    assert (drawing.ncols, drawing.smoothing, drawing.miniters) == (40, 0.5, 2)  # type: ignore[union-attr]
    assert (other.ncols, other.smoothing, other.miniters) == (50, 0, 3)  # type: ignore[union-attr]
    said.close()
    bar.close()
    plain = ProgressBar(10, file=screen)
    drawing = plain._drawing
    assert (drawing.ncols, drawing.smoothing, drawing.miniters) == (100, 0.15, 1)  # type: ignore[union-attr]
    plain.close()


def test_a_dropped_bar_leaves_the_screen() -> None:
    import gc

    file = io.StringIO()
    ProgressBar(10, file=file)
    gc.collect()
    assert file.getvalue().endswith("\n")


def test_repr(screen: Any) -> None:
    with ProgressBar(10, "a", file=screen) as bar:
        assert repr(bar) == "<ProgressBar 'a', 0/10 row, running>"
    assert repr(ProgressBar(disable=True)) == "<ProgressBar 0/? row, running>"
