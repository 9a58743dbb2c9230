"""Ray's own options: accepted by every worker, and handed to Ray as they are.

Guarantees: nothing here is checked but its shape; Ray says what the values may be. The names are those of Ray's own
`.options()`; none is a name of ours.
Called by: `concurry.options`, which brings them together with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from concurry import option as check_for
from concurry.option import UNSAID, Option
from concurry.runtime.enums import ExecutionMode


def _rays(default: Any = UNSAID, check: Callable[[Any], Any] = check_for.raw, **docs: str) -> dict[str, Option[Any]]:
    only = (ExecutionMode.Ray,)
    known = {name: Option(check, default, "a dict with text as keys", doc, only=only) for name, doc in docs.items()}
    for name, option in known.items():  # it stands in no class body, which would tell it
        option.name = name
    return known


RAY: Final[Mapping[str, Option[Any]]] = {
    **_rays(
        check=check_for.optional(check_for.keyed), actor_options="any of Ray's own options, also ones not named here"
    ),
    **_rays(1, num_cpus="CPUs that an actor reserves"),
    **_rays(0, num_gpus="GPUs that an actor reserves"),
    **_rays(
        memory="bytes of heap that an actor reserves",
        object_store_memory="bytes of the object store that an actor reserves",
        resources="custom resources, by name",
        accelerator_type="the accelerator the node must have",
        runtime_env="packages, files and variables of the actor's environment",
        scheduling_strategy="where actors are placed",
        label_selector="labels the node must have",
        fallback_strategy="what else will do where no node fits",
        namespace="the namespace of a named actor",
        name="the actor's name in the cluster",
        lifetime="'detached': the actor outlives the driver",
        get_if_exists="take the actor of that name where there is one",
        max_task_retries="Ray's own retries of a method",
        max_pending_calls="calls that may wait at the actor",
        placement_group="the placement group to use",
        placement_group_bundle_index="which bundle of it",
        placement_group_capture_child_tasks="whether children stay in it",
        enable_task_events="whether Ray's dashboard sees the calls",
    ),
}
