"""Workers that outlive their driver, and drivers that end: whom `get_actor` finds, what is shared, what is left."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from concurry import CallLimit, LimitSet, Worker, WorkerDiedError, WorkerInitError, WorkerStoppedError, gather
from tests.faults.conftest import Script, are_gone

pytestmark = pytest.mark.faults
PATIENCE_S = 60.0
HEAD = """
import os, signal, sys
import ray
from concurry import Worker, gather

ray.init(address={address!r}, log_to_driver=False, logging_level="ERROR")

class Counts(Worker):
    def __init__(self, start=0):
        self.count = start

    def add(self, by=1):
        self.count += by
        return self.count

    def pid(self):
        return os.getpid()

    def takes(self, count):
        pass  # in the class of who has started it

    def hold(self, began, go):
        with open(began, "wb", buffering=0) as said:
            said.write(b"%d\\n" % os.getpid())
        with open(go, "rb", buffering=0) as told:
            told.read(1)
        return "held"

"""


def _counts() -> type[Worker]:
    class Counts(Worker):
        """Travels by value."""

        def __init__(self, start: int = 0) -> None:
            self.count = start

        def add(self, by: int = 1) -> int:
            self.count += by
            return self.count

        def pid(self) -> int:
            return os.getpid()

        def die(self) -> None:
            os._exit(1)

        def large(self, size: int) -> bytes:
            return bytes(size)

        def takes(self, count: int) -> int:
            return sum(self.limits.try_acquire().successful for _ in range(count))

        def hold(self, began: str, go: str) -> str:
            with open(began, "wb", buffering=0) as said:
                said.write(b"%d\n" % os.getpid())
            with open(go, "rb", buffering=0) as told:
                told.read(1)
            return "held"

    Counts.__qualname__ = "Counts"  # as a script of its own would have it
    return Counts


Counts: Any = _counts()


def named() -> list[str]:
    """Every actor of the cluster that has a name."""
    import ray

    return [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]


def keeper(name: str) -> Any:
    import ray

    return ray.get_actor(name, namespace="concurry")


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`detached(*args, **options)` starts one; all are ended after the test, and nothing that has a name is left."""
    started: list[Any] = []

    def start(*args: Any, **options: Any) -> Any:
        given = {"mode": "ray", "num_cpus": 0, "lifetime": "detached", "name": tmp_path.name, **options}
        started.append(Counts.options(**given).init(*args))
        return started[-1]

    yield start
    keepers = [pid for name in named() if (pid := _keeper_pid(name)) is not None]
    pids = [pid for handle in started if (pid := _pid_of(handle)) is not None]
    for handle in started:
        handle.stop()
    assert are_gone(pids, PATIENCE_S)
    assert are_gone(keepers, PATIENCE_S)


def _keeper_pid(name: str) -> int | None:
    import ray

    try:
        pid: int = ray.get(keeper(name).__ray_call__.remote(lambda _: os.getpid()), timeout=PATIENCE_S)
    except (ValueError, ray.exceptions.RayActorError):  # it has ended
        return None
    return pid


def _pid_of(handle: Any) -> int | None:
    return handle.pid().result(PATIENCE_S) if handle.is_alive() else None


@pytest.fixture
def driver(script: Callable[[str], Script]) -> Callable[[str], Script]:
    """`driver(source)` runs a script that has joined this cluster, and has the class."""
    import ray

    address = ray.get_runtime_context().gcs_address
    return lambda source: script(HEAD.format(address=address) + source)


# -- what is shared ----------------------------------------------------------------------------------------------------


def test_another_driver_finds_it(detached: Any, driver: Any, tmp_path: Path) -> None:
    worker = detached(10)
    assert worker.worker_cls is Counts
    assert worker.add(5).result(PATIENCE_S) == 15
    ended = driver(f"print(Counts.get_actor({tmp_path.name!r}).add(100).result(60))").finish()
    assert (ended.out, ended.err, ended.status) == ("115\n", "", 0)
    assert worker.add().result(PATIENCE_S) == 116, "it has outlived that driver"
    assert Counts.get_actor(tmp_path.name) is worker


def test_it_outlives_the_driver_that_started_it(driver: Any, tmp_path: Path) -> None:
    name = tmp_path.name
    options = f"mode='ray', num_cpus=0, lifetime='detached', name={name!r}"
    begun = driver(f"print(Counts.options({options}).init(7).add().result(60), flush=True); os.kill(os.getpid(), 9)")
    assert begun.finish().out == "8\n"
    worker = Counts.get_actor(name)
    assert worker.add().result(PATIENCE_S) == 9
    pids = [worker.pid().result(PATIENCE_S), _keeper_pid(name)]
    worker.stop()
    assert are_gone(pids, PATIENCE_S)


def test_its_limits_are_one_for_all(detached: Any, driver: Any, tmp_path: Path) -> None:
    worker = detached(max_workers=2, limits=[CallLimit(capacity=50, window_seconds=1e6)])
    theirs = driver(f"print(Counts.get_actor({tmp_path.name!r}).takes(30).result(60))").finish()
    assert theirs.out == "30\n", theirs.err
    assert sum(gather([worker.takes(30) for _ in range(4)], timeout=PATIENCE_S)) == 20


def test_large_results_and_failures_come_as_they_are(detached: Any) -> None:
    worker = detached()
    assert worker.large(3_000_000).result(PATIENCE_S) == bytes(3_000_000)
    with pytest.raises(TypeError, match="unsupported operand"):
        worker.add("text").result(PATIENCE_S)
    assert len(worker) == 1
    assert worker.stats()["done"] == worker.stats()["failed"] == 1


# -- what ends ---------------------------------------------------------------------------------------------------------


def test_a_stop_is_everybodys(detached: Any, driver: Any, tmp_path: Path) -> None:
    worker = detached()
    assert worker.add().result(PATIENCE_S) == 1
    ended = driver(f"""
worker = Counts.get_actor({tmp_path.name!r})
worker.stop()
print(worker.is_alive(), type(worker.add().exception(60)).__name__)
""").finish()
    assert (ended.out, ended.err) == ("False WorkerStoppedError\n", "")
    assert isinstance(worker.add().exception(PATIENCE_S), WorkerStoppedError)
    assert not worker.is_alive()


def test_its_actor_dies_and_is_started_again(detached: Any) -> None:
    worker = detached(5)
    assert isinstance(worker.die().exception(PATIENCE_S), WorkerDiedError)
    assert worker.add().result(PATIENCE_S) == 6


def test_its_keeper_dies(detached: Any, tmp_path: Path, pipe: Any) -> None:
    worker, began, go = detached(), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    pid = int(began.wait(PATIENCE_S))
    os.kill(_keeper_pid(tmp_path.name) or 0, signal.SIGKILL)
    assert isinstance(running.exception(PATIENCE_S), WorkerDiedError)
    assert isinstance(worker.add().exception(PATIENCE_S), WorkerDiedError)
    assert not worker.is_alive()
    go.tell()
    assert are_gone([pid], PATIENCE_S), "its actors go with it"
    worker.stop()
    again = detached(3)
    assert again.add().result(PATIENCE_S) == 4, "its name is free"


def test_a_driver_that_dies_takes_its_actors_along(driver: Any, pipe: Any) -> None:
    began, go = pipe(), pipe()
    dying = driver(f"""
worker = Counts.options(mode="ray", num_cpus=0).init()
worker.hold({began.path!r}, {go.path!r}).result()
""")
    pid = int(began.wait(PATIENCE_S))
    dying.process.kill()
    assert are_gone([pid], PATIENCE_S)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_what_cannot_be(detached: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs name="):
        detached(name=None)
    with pytest.raises(TypeError, match="limits=LimitSet lives in this process"):
        detached(limits=LimitSet([CallLimit(capacity=1, window_seconds=1)], shared=True))
    with pytest.raises(ValueError, match="no such actor in namespace 'concurry'"):
        Counts.get_actor("nobody")
    detached()
    with pytest.raises(ValueError, match=f"get_actor\\('{tmp_path.name}'\\)"):
        detached()

    class Other(Worker):
        def method(self) -> None:
            """Nothing."""

    with pytest.raises(TypeError, match="is of class Counts"):
        Other.get_actor(tmp_path.name)


def test_one_that_cannot_be_built_leaves_nothing(tmp_path: Path) -> None:
    class Fails(Worker):
        def __init__(self) -> None:
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        Fails.options(mode="ray", num_cpus=0, lifetime="detached", name=tmp_path.name).init()
    with pytest.raises((ValueError, WorkerDiedError)):  # it is gone, or goes
        Fails.get_actor(tmp_path.name)


def test_one_that_there_is_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    options = {"mode": "ray", "num_cpus": 0, "lifetime": "detached", "name": tmp_path.name}
    with pytest.raises(WorkerInitError, match="init_timeout"):
        Counts.options(**options, resources={"a thing that is not there": 1}, init_timeout=1).init()
    with pytest.raises((ValueError, WorkerDiedError)):  # it is gone, or goes
        Counts.get_actor(tmp_path.name)


def test_a_driver_that_was_forgotten_is_told(detached: Any, tmp_path: Path) -> None:
    import ray

    detached()
    with pytest.raises(WorkerDiedError, match="has forgotten this driver"):
        ray.get(keeper(tmp_path.name).drain.remote("nobody's"), timeout=PATIENCE_S)


def test_nothing_that_is_said_while_a_driver_asks_is_missed() -> None:
    from concurry.detached import _Session

    count = 20_000

    async def asks() -> list[Any]:
        session, heard = _Session("it"), list[bytes]()

        def say() -> None:
            for n in range(count):
                session._send([n])

        says = threading.Thread(target=say)
        says.start()
        while len(heard) < count:
            heard += await asyncio.wait_for(session.drain(), PATIENCE_S)
        says.join()
        session.edge.close(lambda: WorkerDiedError("over"))
        return [msgpack.unpackb(each)[0] for each in heard]

    assert asyncio.run(asks()) == list(range(count))


def test_a_name_is_one_actors() -> None:
    with pytest.raises(ValueError, match="name='it' is one actor's"):
        Counts.options(mode="ray", num_cpus=0, name="it", max_workers=2).init()
