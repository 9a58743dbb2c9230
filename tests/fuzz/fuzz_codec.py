"""A fuzzer for what strangers can send: `read`, and the plain bodies it gives. Run by hand, not by pytest:

    pip install atheris
    python tests/fuzz/fuzz_codec.py -runs=1000000 -max_len=4096 [a folder for the corpus]

Assumes: nothing but ProtocolError may come, and no input may take longer than -timeout or more than -rss_limit_mb.
Pickled bodies are left out: nobody but an authenticated peer gets as far as that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["concurry.transports", "msgpack"]):  # pyright: ignore[reportAttributeAccessIssue]
    from concurry.transports import codec
    from concurry.transports.errors import ProtocolError


def one(data: bytes) -> None:
    try:
        objects = codec.read(data)
    except ProtocolError:
        return
    for value in objects:
        if type(value) is list and len(value) >= 2 and value[-2] == codec.PLAIN:
            try:
                codec.unpack_call(codec.PLAIN, value[-1], None)
            except ProtocolError:
                continue
    again, buffers = codec.pack_result(0, objects)
    assert again
    assert buffers is None or data


def seeds() -> list[bytes]:
    calls = [("m", (1, "a", 2.5, None, True, b"x"), None), ("m", ((1, 2), [3], {"k": 4}), {"key": "word"})]
    made = [codec.pack_call(*call)[0] for call in calls]
    made += [codec.pack_result(1, (1, "a"))[0], codec.pack_failure(1, ValueError("v"), "W"), made[0] * 200]
    return [*made, b"".join(made)]


if __name__ == "__main__":
    for seed in seeds():
        one(seed)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
