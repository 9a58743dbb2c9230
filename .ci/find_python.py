"""Prints where a version of Python is: `python3 .ci/find_python.py 3.13`.

Looks for `python3.13` on PATH, and then among pyenv's versions, of which PATH may have nothing but a shim that refuses.
Exit code 1, with what to do, where it is nowhere.
Called by: `make test-pythons`.
"""

import glob
import os
import shutil
import subprocess
import sys


def runs(path):
    return subprocess.call([path, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def main():
    version = sys.argv[1]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    places = [shutil.which("python" + version), *sorted(glob.glob(f"{pyenv}/versions/{version}*/bin/python"))]
    for path in filter(None, places):
        if runs(path):
            print(path)
            return
    sys.exit(f"concurry: Python {version} is neither on PATH nor in {pyenv}: install it, or name others by PYTHONS=")


if __name__ == "__main__":
    main()
