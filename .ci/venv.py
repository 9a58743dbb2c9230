"""Makes `.venv` and installs the checkout with the named extra into it: `python3 .ci/venv.py test`. CONCURRY_VENV
names another folder.

Guarantees: does nothing where that extra is in already (one read of `.venv/.installed`); a failure ends with one
clear message and exit code 1, and leaves no stamp, so that the same command tries again; two at a time wait for
each other. Writes only into `.venv` and `concurry.egg-info`, which git ignores.
Assumes: Python 3.11 or newer with `venv` and pip. Older ones must be able to read this file, in order to be told so.
Called by: the Makefile, for every target. `CONCURRY_PYTHON_GIVEN=1` says that the user chose the interpreter: a
`.venv` of another Python version is then made anew.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = os.environ.get("CONCURRY_VENV") or ".venv"
VENV = os.path.join(ROOT, NAME)
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, ".installed")
OLDEST = (3, 11)
NEWER_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11")
DEMOS = {"demo", "demo-process"}
INCLUDES = {  # as in pyproject.toml
    "test": DEMOS,
    "test-ray": {"test"} | DEMOS,
    "dev": {"test"} | DEMOS,
    "demo-ray": DEMOS,
}


def fail(message):
    sys.exit("\nconcurry: " + message)


def want_python(given):
    """Go on with this interpreter, or with a newer one from PATH where this one is too old and nobody chose it."""
    if sys.version_info >= OLDEST:
        return
    have = "%d.%d (%s)" % (sys.version_info[0], sys.version_info[1], sys.executable)  # noqa: UP031 (for old Pythons)
    if not given:
        for name in NEWER_NAMES:
            path = shutil.which(name)
            if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
                os.execv(path, [path] + sys.argv)  # noqa: RUF005 (for old Pythons)
    fail("needs Python 3.11 or newer, this is " + have + ". Say which one to use: make test PYTHON=/path/to/python3.11")


def fingerprint():
    """Changes when what has to be installed changes, and not with the settings of the linters."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        data = tomllib.load(file)
    parts = [ROOT, data["build-system"], data["project"], data["tool"]["setuptools"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def venv_version():
    """The version of the interpreter in `.venv`, as "3.11"; None where there is none that runs."""
    try:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def installed(mark):
    """The extras that are in, for this state of pyproject.toml and this place of the checkout."""
    try:
        with open(STAMP) as file:
            stamp = json.load(file)
        return set(stamp["extras"]) if stamp["fingerprint"] == mark else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # no stamp, or one of another hand: install


def create(version):
    sys.stderr.write("concurry: creating " + NAME + " with Python " + sys.version.split()[0] + "\n")
    clear = ["--clear"] if version or os.path.exists(VENV) else []
    done = subprocess.run([sys.executable, "-m", "venv"] + clear + [VENV])  # noqa: RUF005 (for old Pythons)
    if done.returncode:
        fail(
            "`" + sys.executable + " -m venv .venv` failed (its words are above). On Debian and Ubuntu the module is "
            "a package of its own: apt-get install python3-venv. Then run the same make command again."
        )


def install(extra, mark, extras):
    if os.path.exists(STAMP):
        os.remove(STAMP)
    sys.stderr.write("concurry: installing '.[" + extra + "]' into " + NAME + "; the first time takes a minute\n")
    # editable_mode=compat: a plain .pth line. The default is an import hook that costs every interpreter 11 ms and
    # preloads modules, which would falsify the import benchmark.
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--config-settings", "editable_mode=compat", "-e", ".[" + extra + "]"]
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        fail(
            "the installation failed with exit code " + str(done.returncode) + "; pip's own words are above. The "
            "command was:\n    "
            + " ".join(command)
            + "\nIt needs a package index: `.venv/bin/python -m pip config list` "
            "says which (PyPI where it says nothing). Then run the same make command again."
        )
    with open(STAMP, "w") as file:
        json.dump({"fingerprint": mark, "extras": sorted(extras | {extra} | INCLUDES.get(extra, set()))}, file)


def main():
    extra = sys.argv[1]
    given = os.environ.get("CONCURRY_PYTHON_GIVEN") == "1"
    want_python(given)
    mark = fingerprint()
    root = os.open(ROOT, os.O_RDONLY)  # closed, and unlocked with it, when this process ends
    fcntl.flock(root, fcntl.LOCK_EX)
    extras = installed(mark)
    here = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    if extra in extras and not given and os.path.exists(PYTHON):
        return
    version = venv_version()
    if version is None or (given and version != here) or tuple(map(int, version.split("."))) < OLDEST:
        create(version)
        extras = set()
    if extra not in extras:
        install(extra, mark, extras)


if __name__ == "__main__":
    main()
