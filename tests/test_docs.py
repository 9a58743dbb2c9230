"""The code of README.md and of every page in docs/ is run, page by page, each in a fresh process and an empty folder.

How a block can be left out, and how it is kept the same as an example, stands in `docs_support/page.py`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from types import ModuleType

import pytest

from tests.with_ray import WITH_RAY

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "tests" / "docs_support"


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


page = _load("docs_support_page", SUPPORT / "page.py")
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]
BLOCKS = {path: page.blocks(path.read_text(encoding="utf-8")) for path in PAGES}
NEEDS_RAY = {ROOT / "docs" / "guides" / "ray.md"}  # run where Ray is tested only
RUN = [path for path in PAGES if any(block.runs for block in BLOCKS[path]) and (WITH_RAY or path not in NEEDS_RAY)]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """The demo server, quick. One answer in ten is cut off short, so that retries have something to do."""
    server = _load("docs_support_server", ROOT / "examples" / "support" / "server.py")
    with server.running_server(latency=0.01, latency_spread=0, short_rate=0.1) as url:
        yield url


@pytest.mark.parametrize("path", RUN, ids=_name)
def test_page_runs(path: Path, base_url: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(SUPPORT), str(ROOT)])
    # no proxy: the server is on the loopback address. MPLBACKEND, COLUMNS and the like stay as they are
    env = {**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "demo", "PYTHONPATH": paths, "NO_PROXY": "*"}
    ended = subprocess.run(
        [sys.executable, str(SUPPORT / "page.py"), str(path)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=180 if path in NEEDS_RAY else 60,
        check=False,
    )
    said = f"{_name(path)} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, said
    # An exception in a thread or in a destructor does not change the exit code.
    for sign in ("Traceback", "Exception ignored", "ResourceWarning", "Task was destroyed"):
        assert sign not in ended.stderr, said


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_every_block_that_is_not_run_says_why(path: Path) -> None:
    for block in BLOCKS[path]:
        where = f"{_name(path)}:{block.line}"
        if block.not_run is not None:
            assert block.not_run, f"{where}: <!-- not run: --> needs a reason"
        if block.source is not None:
            assert block.source.startswith("examples/"), f"{where}: only parts of examples, which tests run"
            source = (ROOT / block.source).read_text(encoding="utf-8")
            indented = (indent(block.code.strip("\n"), depth * "    ") for depth in range(5))
            assert any(part in source for part in indented), f"{where} is no longer a part of {block.source}"


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{_name(path)} links to {target}, which does not exist"


# -- the runner itself ------------------------------------------------------------------------------------------------

PAGE = """\
Text.

```python
value = 1
```

- in a list:

  ```python
  value += 1
  ```

```sh
rm -rf nothing
```

```python title="sketch"
undefined
```

<!-- not run: needs a cluster -->
```python
also_undefined
```

````python
import sys
assert sys.modules[__name__].value == 2 and __name__ == "__main__"
print("```")
````

<!-- from examples/batch_llm.py -->

```python
def one_by_one
```
"""


def test_blocks_are_found_with_their_lines_and_marks() -> None:
    found = page.blocks(PAGE)
    assert [block.runs for block in found] == [True, True, False, False, True, False]
    assert [block.line for block in found] == [4, 10, 18, 23, 27, 35]
    assert found[1].code == "value += 1"
    assert found[2].sketch
    assert found[3].not_run == "needs a cluster"
    assert found[5].source == "examples/batch_llm.py"


def test_a_failing_block_names_its_line_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE + "\n```python\n\nraise KeyError('here')\n```\n", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(SUPPORT / "page.py"), str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == "```\n"
    assert f'File "{path}", line 40' in ended.stderr
    assert "raise KeyError('here')" in ended.stderr
