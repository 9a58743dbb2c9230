"""A hook of mkdocs: in a search, pages that explain something come before those that mention it too.

It stands here, and not at the head of each page, because pages are also read where that would be shown as text.
Called by: mkdocs (`hooks` in mkdocs.yml).
"""

from typing import Any

BOOST = {  # how many times a page's words count
    "faults.md": 4,
    "figures.md": 2,
    "getting-started.md": 2,
    "limits.md": 4,
    "options.md": 2,
    "processes.md": 4,
    "progress.md": 2,
    "retries.md": 2,
    "stopping.md": 4,
    "testing.md": 0.5,  # its headings have the words of every other page
}


def on_files(files: Any, **_: Any) -> Any:
    """Refuse a page that there is not: a renamed one would lose its weight without a word."""
    missing = [name for name in BOOST if files.get_file_from_path(name) is None]
    if missing:
        raise ValueError(f"docs/boost.py names pages that are not in docs/: {', '.join(missing)}")
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give the page to the search with its weight."""
    if page.file.src_uri in BOOST:
        page.meta["search"] = {"boost": BOOST[page.file.src_uri]}
    return markdown
