"""Checks every link in README.md, the other pages at the top, and docs/: files exist, and so do the headings meant.

    python docs/check.py            the pages, before mkdocs renders them (it sees nothing outside docs/)
    python docs/check.py out/site   the site that it has made: every link, picture and anchor of its HTML

Guarantees: exit code 1 with one line a broken link. Links to other sites are not fetched; but the site may load nothing
(script, picture, font) from another one.
Called by: `make docs`, both.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
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


class Html(HTMLParser):
    """What a page of the site links to, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[int, str]] = []
        self.loads: list[tuple[int, str]] = []
        self.anchors = {"", "__top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser for each tag."""
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value or "")
            elif name == "src" or (name == "href" and tag == "link"):
                self.loads.append((self.getpos()[0], value or ""))
            elif name == "href":
                self.links.append((self.getpos()[0], value or ""))


@cache
def rendered(page: Path) -> Html:
    """A page of the site, read once."""
    return Html(page.read_text(encoding="utf-8"))


def site(folder: Path) -> Iterator[tuple[Path, int, str, str | None]]:
    """(page, line, target, what is wrong with it) of each link of the site."""
    for page in sorted(folder.rglob("*.html")):
        html = rendered(page)
        loads = set(html.loads)
        for line, target in [*html.links, *html.loads]:
            wrong = None
            if re.match(r"[a-z][a-z+.-]*:|//", target):
                if (line, target) in loads and not target.startswith("data:"):
                    wrong = "is loaded from another site"
            elif not target.startswith("/"):  # only 404.html has those: it may be shown for any address
                path, _, anchor = unquote(target).partition("#")
                file = (page.parent / path.partition("?")[0]).resolve() if path else page
                file = file / "index.html" if file.is_dir() else file
                if not file.exists():
                    wrong = "no such file"
                elif file.suffix == ".html" and anchor not in rendered(file).anchors:
                    wrong = f"nothing has the anchor #{anchor}"
            yield page, line, target, wrong


def end(what: str, count: int, broken: list[str]) -> None:
    """Print what was found, and leave."""
    print(*broken, f"{what}, {count} links, {len(broken)} of them broken", sep="\n")
    sys.exit(1 if broken else 0)


def main() -> None:
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        found = list(site(folder))
        pages_of_site = len({page for page, *_ in found})
        if not found:
            sys.exit(f"{folder}: no site is there")
        end(f"{pages_of_site} pages of the site", len(found), [f"{p}:{n}: {t}: {w}" for p, n, t, w in found if w])
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    count, broken = 0, []
    for page in pages:
        for line, target, wrong in links(page):
            count += 1
            wrong = wrong or wrong_with(page, target)
            if wrong:
                broken.append(f"{page.relative_to(ROOT)}:{line}: {target}: {wrong}")
    end(f"{len(pages)} pages", count, broken)


if __name__ == "__main__":
    main()
