"""Checks the built pages: `python docs/site_links.py build/site` names every link that leads nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {("script", "src"), ("img", "src"), ("link", "href")}
"""What a browser fetches by itself."""
_NOT_LOADED = {"canonical", "next", "prev"}
"""Kinds of `link` that only name a page."""


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        """Each with whether a browser fetches it by itself."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        for name in ("href", "src"):
            if name in found:
                is_loaded = (tag, name) in _LOADED and found.get("rel") not in _NOT_LOADED
                self.links.append((found[name], is_loaded))


def faults(site: Path) -> Iterator[str]:
    """One line for each link that leads nowhere, depends on the site's place, or fetches from elsewhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link, is_loaded in page.links:
            if fault := _fault(site, path, pages, link, is_loaded=is_loaded):
                yield f"{path.relative_to(site)}: {link}: {fault}"


def _fault(
    site: Path, path: Path, pages: dict[Path, _Page], link: str, *, is_loaded: bool
) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "is fetched from elsewhere" if is_loaded and parts.scheme != "data" else None
    if parts.path.startswith("/"):
        return "is right only where the site stands at the root"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site.resolve()) or not target.is_file():
        return "is not there"
    page = next((each for place, each in pages.items() if place.resolve() == target), None)
    if parts.fragment and page is not None and unquote(parts.fragment) not in page.ids:
        return "has no such place"
    return None


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    sys.exit(bool(found))
