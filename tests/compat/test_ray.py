"""Ray: its futures beside all others, and its options."""

from __future__ import annotations

import asyncio
import concurrent.futures
from importlib import import_module
from typing import Any

import pytest

from concurry import RayFuture, SyncFuture, Worker, async_gather, async_wait, gather, wait, wrap_future
from tests.with_ray import WITH_RAY

with_ray = pytest.mark.skipif(not WITH_RAY, reason="needs Ray: make test-ray")


class Echo(Worker):
    def echo(self, value: Any) -> Any:
        return value

    def cpus(self) -> float:
        ray = import_module("ray")
        return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))


async def later(value: Any) -> Any:
    return value


@with_ray
def test_worker_futures() -> None:
    with Echo.options(mode="ray", num_cpus=0).init() as echo:
        future = echo.echo(3)
        assert isinstance(future, RayFuture)
        assert future.result() == 3


@with_ray
def test_wrap_future_of_an_object_ref() -> None:
    ray = import_module("ray")
    future = wrap_future(ray.put(3))
    assert type(future) is RayFuture
    assert future.result() == 3
    assert future.cancel() is False


@with_ray
def test_a_ray_future_takes_an_object_ref_only() -> None:
    with pytest.raises(TypeError, match=r"object_ref must be a ray\.ObjectRef"):
        RayFuture(5)


@with_ray
def test_all_kinds_are_mixed() -> None:
    ray = import_module("ray")
    standard: concurrent.futures.Future[int] = concurrent.futures.Future()
    standard.set_result(3)
    with Echo.options(mode="ray", num_cpus=0).init() as far, Echo.options(mode="thread").init() as near:
        mixed: list[Any] = [near.echo(1), SyncFuture(2), standard, ray.put(4), far.echo(5)]
        assert gather(mixed) == [1, 2, 3, 4, 5]
        assert wait(mixed) == (set(mixed), set())
        assert asyncio.run(async_gather([*mixed, later(6)])) == [1, 2, 3, 4, 5, 6]
        assert asyncio.run(async_wait(mixed)) == (set(mixed), set())
        assert gather({"a": [mixed[3], {"b": mixed[0]}]}, recurse=True) == {"a": [4, {"b": 1}]}


@with_ray
@pytest.mark.parametrize("given", [{"actor_options": {"num_cpus": 0.5}}, {"num_cpus": 0.5}])
def test_actor_options_and_the_options_by_themselves(given: Any) -> None:
    with Echo.options(mode="ray", **given).init() as echo:
        assert echo.cpus().result() == 0.5


@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio", "process"])
def test_rays_options_mean_nothing_in_the_other_modes(mode: str) -> None:
    options: Any = {"mode": mode, "actor_options": {"num_cpus": 2}, "num_cpus": 2, "num_gpus": 1}
    with Echo.options(**options).init() as echo:
        assert echo.echo(3).result() == 3
