"""Look through a site that was built: ``python -m tools.site.check FOLDER``; exit status 1 where anything is off.

Every link inside of the site must lead to a file and to an anchor in it, every picture must have an alternative text,
and nothing may be fetched from elsewhere. The pages that are complete in themselves have tests of their own.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
PASSIVE = {"canonical", "next", "prev", "search", "index", "author"}  # links that nothing is fetched by


class Page(HTMLParser):
    """The anchors of a page, what it links, what it fetches, and its pictures without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.wordless: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        address = found.get(FETCHED.get(tag, ""), "")
        if address and not (tag == "link" and PASSIVE & set(found.get("rel", "").split())):
            self.fetched.append(address)
        words = found.get("alt", "").strip()
        if tag == "img" and found.get("role") != "presentation" and (not words or words == found.get("src")):
            self.wordless.append(found.get("src", "")[:60])


def problems(site: Path) -> list[str]:
    """What is off with a site, a line each."""
    files = sorted(site.rglob("*.html"))
    if not (site / "search.html").is_file():
        return [f"{site} holds no site"]
    pages = {path: Page(path.read_text("utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        if "_static/documentation_options.js" not in "".join(page.fetched):  # not one of Sphinx's
            continue
        where = path.relative_to(site)
        found += [f"{where}: a picture without an alternative text, {source}" for source in page.wordless]
        for address in page.fetched:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//"):
                found.append(f"{where}: fetches {address}")
            elif not address.startswith("data:"):
                found += _missing(path, address, pages, site)
        for address in page.links:
            if not urlsplit(address).scheme:
                found += _missing(path, address, pages, site)
    return found


def _missing(path: Path, address: str, pages: dict[Path, Page], site: Path) -> list[str]:
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    target = target / "index.html" if target.is_dir() else target
    where = path.relative_to(site)
    if not target.is_file() or not target.is_relative_to(site.resolve()):
        return [f"{where}: nothing is at {address}"]
    page = next((page for known, page in pages.items() if known.resolve() == target), None)
    anchor = unquote(parts.fragment)
    if page is not None and anchor and anchor not in page.anchors and "=" not in anchor:  # a state, not a place
        return [f"{where}: {address} has no such anchor"]
    return []


def main() -> None:
    found = problems(Path(sys.argv[1]))
    print(
        "\n".join(found) or "every link leads somewhere, every picture has words, and nothing is fetched from elsewhere"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
