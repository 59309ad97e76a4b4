"""Print the cheat sheet of the built site as one page: ``python -m tools.cheat_sheet build/site docs/cheat_sheet.pdf``.

Needs Chromium. The page's title names the text that it was printed from, so that a test sees when it is out of date.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SHEET = Path(__file__).parents[1] / "docs" / "cheat_sheet.md"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SCALES = [percent / 100 for percent in range(95, 45, -5)]
STYLE = """
.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-footer, .bd-footer, .headerlink,
#jb-print-toc, dialog, a[href$=".pdf"], a[href$=".pdf"] + * { display: none !important }
.bd-container, .bd-main, .bd-content, .bd-article-container, .bd-article {
  max-width: none !important; padding: 0 !important
}
h1, h2 { margin: 0.4rem 0 !important }
table { margin: 0.3rem 0 !important }
td, th { padding: 0.15rem 0.5rem !important }
"""


def title(text: str) -> str:
    """What the page printed from this text is called."""
    return f"VAE cheat sheet {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def pages(pdf: bytes) -> int:
    """How many pages a file has that Chromium printed."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def main() -> None:
    site, out = map(Path, sys.argv[1:])
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        sys.exit("Chromium is needed.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((site / "docs" / "cheat_sheet.html").resolve().as_uri())
        page.evaluate("MathJax.startup.promise")
        page.add_style_tag(content=STYLE)
        page.evaluate("document.querySelectorAll('a').forEach(link => link.removeAttribute('href'))")  # paper has none
        page.evaluate("title => { document.title = title }", title(SHEET.read_text("utf-8")))
        edge = dict.fromkeys(("top", "bottom", "left", "right"), "12mm")
        printed = (page.pdf(format="A4", scale=scale, margin=edge) for scale in SCALES)
        out.write_bytes(next(pdf for pdf in printed if pages(pdf) == 1))
        browser.close()


if __name__ == "__main__":
    main()
