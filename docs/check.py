"""Checks every link in README.md, the other pages at the top, and docs/: files exist, and so do the headings meant.

Guarantees: exit code 1 with one line a broken link. Looks only at the checkout: links to other sites are not fetched.
Called by: `make docs`, before mkdocs renders the pages (it sees nothing outside docs/).
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
INLINE = re.compile(r"\]\(\s*<?([^)<>\s]+)>?(?:\s+[\"'][^)]*)?\)")
REFERENCE = re.compile(r"^ {0,3}\[([^\]^]+)\]:\s*<?([^\s>]+)", re.MULTILINE)
USE = re.compile(r"\]\[([^\]]+)\]")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for title in HEADING.findall(blanked(page, keep_code=True)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip()
        again = seen[slug]
        seen[slug] += 1
        found.add(slug.replace(" ", "-") + (f"-{again}" if again else ""))  # GitHub's
        found.add(re.sub(r"[\s-]+", "-", slug) + (f"_{again}" if again else ""))  # mkdocs'
    return found


def blanked(page: Path, *, keep_code: bool = False) -> str:
    """The page without its code, line numbers kept."""
    text = FENCED.sub(lambda match: re.sub(r"[^\n]", "", match[0]), page.read_text(encoding="utf-8"))
    return text if keep_code else CODE.sub("", text)


def links(page: Path) -> Iterator[tuple[int, str, str | None]]:
    """(line, target as written, what is wrong with it by itself) of every link of a page."""
    text = blanked(page)
    references = {name.lower(): target for name, target in REFERENCE.findall(text)}
    for pattern, group in ((INLINE, 1), (REFERENCE, 2)):
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, match[group], None
    for match in USE.finditer(text):
        if match[1].lower() not in references:
            yield text.count("\n", 0, match.start()) + 1, match[1], "no such reference on this page"


def wrong_with(page: Path, target: str) -> str | None:
    """Why a link leads nowhere; None where it leads somewhere, or to another site."""
    if re.match(r"[a-z][a-z+.-]*:", target):
        return None
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return "no such file"
    if not file.is_relative_to(ROOT):
        return "leads out of the repository"
    if anchor and file.suffix == ".md" and anchor not in anchors(file):
        return f"no heading gives #{anchor}"
    return None


def main() -> None:
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    count, broken = 0, []
    for page in pages:
        for line, target, wrong in links(page):
            count += 1
            wrong = wrong or wrong_with(page, target)
            if wrong:
                broken.append(f"{page.relative_to(ROOT)}:{line}: {target}: {wrong}")
    print(*broken, f"{len(pages)} pages, {count} links, {len(broken)} of them broken", sep="\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
