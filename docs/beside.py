"""A hook of mkdocs: files beside docs/ that a page links to (a test, an example, README.md) come into the site as text.

Guarantees: a link that leads out of docs/ leads somewhere in the site too, which has no repository around it. A link to
a folder becomes plain text there. docs/check.py has seen before that each of them exists.
Called by: mkdocs (`hooks` in mkdocs.yml).
"""

import re
from pathlib import Path
from typing import Any

from check import FENCED, ROOT
from mkdocs.structure.files import File

OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>\.\.?/[^)#\s]+)(?:#[^)\s]*)?\)")
DOCS = ROOT / "docs"


def meant(page: Path, target: str) -> Path | None:
    """The file or folder beside docs/ that a link of a page means; None where it stays inside."""
    there = (page.parent / target).resolve()
    return None if there.is_relative_to(DOCS) or not there.is_relative_to(ROOT) else there


def place(file: Path) -> str:
    """Where a file beside docs/ stands in the site."""
    return f"source/{file.relative_to(ROOT).as_posix()}.txt"


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add each file that a page links to, once."""
    for page in [it for it in files if it.is_documentation_page()]:
        path = Path(page.abs_src_path)
        for link in OUTSIDE.finditer(FENCED.sub("", path.read_text(encoding="utf-8"))):
            file = meant(path, link["target"])
            if file and file.is_file() and files.get_file_from_path(place(file)) is None:
                files.append(File.generated(config, place(file), content=file.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links there."""
    path = Path(page.file.abs_src_path)
    up = "../" * page.file.src_uri.count("/")

    def moved(link: re.Match[str]) -> str:
        file = meant(path, link["target"])
        if file is None:
            return link[0]
        return f"[{link['text']}]({up}{place(file)})" if file.is_file() else link["text"]

    code = FENCED.findall(markdown) and [it[0] for it in FENCED.finditer(markdown)]
    parts = FENCED.sub("\0", markdown).split("\0")
    moved_parts = [OUTSIDE.sub(moved, part) for part in parts]
    return "".join(part + fence for part, fence in zip(moved_parts, [*(code or []), ""], strict=True))
