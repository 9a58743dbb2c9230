"""What concurry uses of msgpack, which brings no types of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

from typing_extensions import Buffer

class ExtType(NamedTuple):
    code: int
    data: bytes

class Packer:
    def __init__(self, *, default: Callable[[Any], Any] | None = None, strict_types: bool = False) -> None: ...
    def pack(self, obj: Any) -> bytes: ...

class Unpacker:
    def __init__(
        self,
        *,
        read_size: int = 0,
        use_list: bool = True,
        raw: bool = False,
        strict_map_key: bool = True,
        object_hook: Callable[[dict[Any, Any]], Any] | None = None,
        list_hook: Callable[[list[Any]], Any] | None = None,
        ext_hook: Callable[[int, bytes], Any] = ...,
        max_buffer_size: int = ...,
        max_array_len: int = -1,
    ) -> None: ...
    def feed(self, next_bytes: Buffer) -> None: ...
    def unpack(self) -> Any: ...
    def skip(self) -> None: ...
    def tell(self) -> int: ...

def packb(o: Any, *, default: Callable[[Any], Any] | None = None, strict_types: bool = False) -> bytes: ...
def unpackb(packed: Buffer, *, use_list: bool = True, raw: bool = False, strict_map_key: bool = True) -> Any: ...
