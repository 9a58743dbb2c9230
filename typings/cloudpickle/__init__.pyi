"""What concurry uses of cloudpickle, which brings no types of its own."""

import pickle
from types import ModuleType
from typing import Any

class Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any, /) -> Any: ...

def dumps(obj: Any, protocol: int | None = None) -> bytes: ...
def register_pickle_by_value(module: ModuleType) -> None: ...
