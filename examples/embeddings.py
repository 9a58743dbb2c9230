"""An embedding job: one model in each process, loaded once, and batches of texts that go to whichever is free.

    python examples/embeddings.py                  # 4,000 docstrings
    python examples/embeddings.py --quick          # 400 of them
    python examples/embeddings.py --processes 8

The model is a small one, of word vectors: a table of 100 MB, mapped from its file, so that all processes share one copy
in memory. What comes back is the same as without processes, to the last bit, or the exit code is 1. It needs numpy
(`pip install '.[demo-process]'`).
"""

import argparse
import os
import re
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from support.prompts import docstrings

from concurry import Worker, WorkerDiedError, gather

Vectors = npt.NDArray[np.float32]
ROWS, WIDTH = 100_000, 256
BATCH = 50


class Embedder(Worker):
    """Works as a plain object, too: `Embedder(path).embed(["a text"])`."""

    def __init__(self, path: Path) -> None:
        self.table: Vectors = np.load(path, mmap_mode="r")  # the pages of the file, which all processes share

    def embed(self, texts: list[str]) -> Vectors:
        """One row a text, of length 1."""
        rows = np.stack([self._vector(text) for text in texts])
        lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        normal: Vectors = rows / np.maximum(lengths, np.float32(1e-9))
        return normal

    def _vector(self, text: str) -> Vectors:
        words = re.findall(r"[a-z]+", text.lower())
        ids = [zlib.crc32(part.encode()) % ROWS for word in words for part in pieces(word)]
        vector: Vectors = self.table[ids].sum(axis=0) if ids else np.zeros(WIDTH, np.float32)
        return vector


def pieces(word: str) -> list[str]:
    """A word and its parts of three to five letters, so that "iterate" and "iterator" have something in common."""
    framed = f"<{word}>"
    return [word, *(framed[at : at + long] for long in (3, 4, 5) for at in range(len(framed) - long + 1))]


def in_processes(model: Path, texts: list[str], processes: int) -> Vectors:
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    # A process that dies, of too little memory for instance, loses one batch; it is done again in a new one.
    options = Embedder.options(mode="process", max_workers=processes, num_retries=1, retry_on=WorkerDiedError)
    start = time.monotonic()
    with options.init(model) as embedder:
        started = time.monotonic()
        vectors = gather([embedder.embed(batch) for batch in batches], progress={"desc": "embedding", "unit": "batch"})
        ended = time.monotonic()
    print(f"in {processes} processes: {ended - started:.2f} s, and {started - start:.2f} s to start them")
    return np.concatenate(vectors)


def make_model(folder: str) -> Path:
    """Random vectors, but the same every time; yours would be downloaded."""
    path = Path(folder) / "model.npy"
    np.save(path, np.random.default_rng(0).standard_normal((ROWS, WIDTH), dtype=np.float32))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many (as many as there are cores)")
    parser.add_argument("--quick", action="store_true", help="400 texts only")
    asked = parser.parse_args()
    named = docstrings(400 if asked.quick else 4_000)
    names, texts = list(named), list(named.values())
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder)
        start = time.monotonic()
        expected = Embedder(model).embed(texts)
        print(f"{len(texts):,} texts, here: {time.monotonic() - start:.2f} s")
        vectors = in_processes(model, texts, asked.processes)
    equal = bool(np.array_equal(vectors, expected))
    print("the same to the last bit" if equal else "DIFFERENT VECTORS")
    likeness = vectors @ vectors[0]
    for at in np.argsort(-likeness)[:4]:
        print(f"  {likeness[at]:.2f} {names[at]}: {texts[at].splitlines()[0][:60]}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
