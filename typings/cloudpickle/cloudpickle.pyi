"""The one function of cloudpickle's own module that concurry needs."""

from typing import Any

def _class_setstate(obj: type, state: Any) -> type: ...
