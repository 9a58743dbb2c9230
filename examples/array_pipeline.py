"""Large arrays through processes: images are calibrated in two processes, and stacked here as they come back.

    python examples/array_pipeline.py              # 12 images of 64 MiB: plain numpy, ProcessPoolExecutor, concurry
    python examples/array_pipeline.py --images 16
    python examples/array_pipeline.py --quick      # 4 images of 4 MiB

What a camera gives is corrected for its dark current and its uneven sensitivity, image by image. The three stacks must
be the same to the last bit, or the exit code is 1. It needs numpy (`pip install '.[demo-process]'`).
"""

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt

from concurry import BaseFuture, Worker

Image = npt.NDArray[np.float32]
PROCESSES = 2


class Calibrator(Worker):
    def __init__(self, dark: Image, flat: Image) -> None:
        self.dark = dark  # sent once to each process, not with every call
        self.flat = flat

    def calibrate(self, image: Image) -> Image:
        # `image` is shared memory, mapped and not copied; it cannot be written to (`writable_arrays=True`: a copy).
        return calibrated(image, self.dark, self.flat)


def calibrated(image: Image, dark: Image, flat: Image) -> Image:
    result = image - dark
    result /= flat
    return result


def stacked(images: Iterable[Image], shape: tuple[int, int]) -> Image:
    total = np.zeros(shape, np.float32)
    for image in images:
        total += image
    return total


def plainly(images: list[Image], dark: Image, flat: Image) -> Image:
    return stacked((calibrated(image, dark, flat) for image in images), dark.shape)


def with_concurry(images: list[Image], dark: Image, flat: Image) -> Image:
    with Calibrator.options(mode="process", max_workers=PROCESSES).init(dark, flat) as calibrator:
        futures = [calibrator.calibrate(image) for image in images]
        return stacked(read(futures), dark.shape)


def read(futures: list[BaseFuture[Image]]) -> Iterator[Image]:
    """The results in order. None is kept: the memory of one that has been read is used for the next."""
    futures.reverse()
    while futures:
        yield futures.pop().result()


def with_process_pool_executor(images: list[Image], dark: Image, flat: Image) -> Image:
    context = multiprocessing.get_context("forkserver")  # as ours
    pool = ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=keep, initargs=(dark, flat))
    try:
        return stacked(pool.map(calibrated_with_kept, images), dark.shape)
    finally:
        pool.shutdown(cancel_futures=True)


def keep(dark: Image, flat: Image) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # or each of its processes prints a traceback after Ctrl-C
    kept.extend((dark, flat))


kept: list[Image] = []  # in each process of the ProcessPoolExecutor


def calibrated_with_kept(image: Image) -> Image:
    return calibrated(image, *kept)


def photographs(number: int, side: int) -> tuple[list[Image], Image, Image]:
    """So many images, and the dark and flat images of their camera."""
    rng = np.random.default_rng(2013)
    shape = (side, side)
    dark, flat = rng.random(shape, np.float32), 0.5 + rng.random(shape, np.float32)
    return [rng.random(shape, np.float32) + dark for _ in range(number)], dark, flat


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="how many (12)")
    parser.add_argument("--quick", action="store_true", help="4 images of 4 MiB")
    asked = parser.parse_args()
    images, dark, flat = photographs(asked.images or (4 if asked.quick else 12), 1024 if asked.quick else 4096)
    sent = 2 * sum(image.nbytes for image in images)  # there and back

    ways: dict[str, Callable[[list[Image], Image, Image], Image]] = {
        "plain numpy": plainly,
        "ProcessPoolExecutor": with_process_pool_executor,
        "concurry": with_concurry,
    }
    results: dict[str, Image] = {}
    print(f"{len(images)} images of {images[0].nbytes >> 20} MiB, {PROCESSES} processes, starting them included")
    for name, way in ways.items():
        start = time.monotonic()
        results[name] = way(images, dark, flat)
        seconds = time.monotonic() - start
        speed = "" if way is plainly else f"{sent / seconds / 1e6:7,.0f} MB/s there and back"
        print(f"{name:20} {seconds:6.2f} s {speed}".rstrip())

    equal = all(np.array_equal(stack, results["plain numpy"]) for stack in results.values())
    print("the same to the last bit" if equal else "DIFFERENT STACKS")
    return 0 if equal else 1


# The guard is here because of ProcessPoolExecutor alone, whose processes run this script again, up to this line.
# Those of concurry do not.
if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        sys.exit(130)
