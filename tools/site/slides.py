"""Slides for a lecture from the notebooks' tags: ``python -m tools.site.slides FOLDER``; ``make site`` builds them.

A cell tagged 'slide' becomes a slide. Of a text it shows a heading with the lists and formulas below it, the question
that begins with "Predict", or the first paragraph of what is none of these, such as an answer; of code the picture that
the notebook is stored with, under the heading of its section, and the sentence after it as a caption, or where there is
no picture the code itself. `python -m tools.site.slides --tag` tags the cells that make a lecture; change the tags as
you like.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.site.stage import ICON

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
TAG = "slide"
SERIES = "Variational auto-encoders in TensorFlow"
CONF = """project = "Slides: variational auto-encoders in TensorFlow"
extensions = ["myst_parser", "sphinx_revealjs", "sphinx.ext.mathjax"]
mathjax_path = "../../_static/mathjax/tex-chtml.js"  # that of the site around it
myst_enable_extensions = ["dollarmath", "amsmath"]
revealjs_style_theme = "white"
revealjs_static_path = ["slides.css"]
revealjs_css_files = ["slides.css"]
revealjs_script_conf = {"hash": True, "center": False, "width": 1280, "height": 720, "margin": 0.04, "controls": True,
                       "slideNumber": "c/t", "transition": "none"}
html_static_path = ["slides.css"]
html_copy_source = False
html_favicon = "favicon.svg"
"""
STYLE = """.reveal { font-size: 30px }
.reveal h1 { font-size: 2em; text-transform: none }
.reveal h2, .reveal h3 { font-size: 1.35em; text-transform: none; margin-bottom: 0.4em }
.reveal .slides section { text-align: left }
.reveal img { display: block; margin: 0 auto; width: 100%; max-height: 500px; object-fit: contain }
.reveal blockquote { font-size: 40px; font-style: normal; width: 100%; margin: 1em 0; padding: 0; box-shadow: none }
.reveal pre { font-size: 20px; width: 100%; box-shadow: none }
.reveal pre code { max-height: none }
.reveal p { margin: 0.4em 0; line-height: 1.3 }
.reveal li { margin-bottom: 0.35em; line-height: 1.3 }
"""


def is_slide(cell: NotebookNode) -> bool:
    """Whether a cell has the tag."""
    return TAG in cell.metadata.get("tags", [])


def worth_a_slide(cell: NotebookNode) -> bool:
    """What `--tag` tags: what the notebook shows and what to remember, questions, formulas and pictures."""
    if cell.cell_type == "markdown":
        return bool(re.search(r"^(# |## What to remember|\*\*Predict:)|\$\$", cell.source, re.M))
    hidden = {"hide-cell", "solution", "exercise"} & set(cell.metadata.get("tags", []))
    return not hidden and picture(cell) is not None


def picture(cell: NotebookNode) -> tuple[bytes, str] | None:
    """The last picture among a cell's outputs and its alternative text."""
    for output in reversed(cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            words = output.metadata.get("image/png", {}).get("alt", "")
            return base64.b64decode(output.data["image/png"]), words
    return None


def without_links(text: str) -> str:
    """A text whose links are words, since slides have no pages beside them."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def first_sentence(text: str) -> str:
    """The first sentence of a text's first paragraph, or nothing where it begins with anything but prose."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    if re.match(r"[#*|<(>\-!]|\d+\.", paragraph) or len(paragraph.split()) < 3:
        return ""
    match = re.match(r".+?[.!?](?=\s+[A-Z`$\"]|$)", paragraph)
    if not match and paragraph.endswith(":"):  # it speaks of what comes next in the notebook
        return ""
    return match.group() if match else paragraph + "."


def of_text(source: str, section: str) -> list[str]:
    """The slide of a tagged text: a question, or a heading with what is a list or a formula of its own below it."""
    question = re.search(r"^\*\*Predict:\*\*(.+?)(?=\n\n|\Z)", source, re.M | re.S)
    if question:
        words = question.group(1).strip()
        return ["", f"## {section}", "", "**Predict**", "", "> " + (words[0].upper() + words[1:]).replace("\n", "\n> ")]
    headings = ("# .+", "## What to remember", "## .+")
    heading = next(filter(None, (re.search(rf"^{found}$", source, re.M) for found in headings)), None)
    before = source[: heading.start()].strip() if heading else ""
    if before and not re.search(r"^[-*] |\$\$", source, re.M):  # an answer, and then the next section
        source, heading = before, None
    text = source[heading.end() :].split("\n## ")[0] if heading else source
    blocks = re.finditer(r"^[-*] .+?(?=\n\n|\Z)|\$\$.+?\$\$", text, re.M | re.S)
    shown = [re.sub(r"[,.]\$\$$", "$$", block.group()) for block in blocks]
    title = heading.group() if heading else f"## {section}"
    if not shown and not heading:  # an answer: its first paragraph
        shown = [text.strip().split("\n\n")[0]]
    return ["", title, "", *(line for block in shown for line in (block, ""))]


def deck(path: Path, out: Path) -> None:
    """Write one notebook's slides as Markdown, with its pictures beside them."""
    cells = nbformat.read(path, as_version=4).cells
    lines: list[str] = []
    section = ""
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            found = re.findall(r"^## (.+)$", cell.source, re.M)
            if is_slide(cell):
                lines += [without_links(line) for line in of_text(cell.source, section)]
            section = found[-1] if found else section
        elif is_slide(cell) and picture(cell) is None:
            code = cell.source.split("\n\n\ncheck.")[0]
            if lines[-1:] == ["```"] and f"## {section}" in lines[-40:]:  # short functions share a slide
                lines[-1:] = ["", "", code, "```"]
            else:
                lines += ["", f"## {section}", "", "```python", code, "```"]
        elif is_slide(cell) and (shown := picture(cell)):
            name = f"{path.stem}_{i}.png"
            (out / name).write_bytes(shown[0])
            lines += ["", f"## {section}", "", f"![{re.sub(r'[][]', '', shown[1])}]({name})"]
            after = cells[i + 1].source if i + 1 < len(cells) and cells[i + 1].cell_type == "markdown" else ""
            lines += ["", without_links(first_sentence(after))]
    first = next(i for i, line in enumerate(lines) if line.startswith("# "))
    lines.insert(first + 1, f"\n{SERIES} - [all slides](index.md)\n\n## This notebook shows")
    (out / f"{path.stem}.md").write_text("\n".join(lines) + "\n", "utf-8")


def tag_notebooks() -> None:
    """Tag the cells that make a lecture."""
    for path in NOTEBOOKS:
        book = nbformat.read(path, as_version=4)
        for cell in book.cells:
            if worth_a_slide(cell) and not is_slide(cell):
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), TAG]
        nbformat.write(book, path)


def main() -> None:
    if sys.argv[1:] == ["--tag"]:
        tag_notebooks()
        return
    out = Path(sys.argv[1])
    if out.exists() and not (out / "slides.css").is_file():  # which this writes
        sys.exit(f"{out} was not made by this: give another folder.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "conf.py").write_text(CONF, "utf-8")
    (out / "slides.css").write_text(STYLE, "utf-8")
    (out / "favicon.svg").write_text(ICON, "utf-8")
    for path in NOTEBOOKS:
        deck(path, out)
    names = "\n".join(path.stem for path in NOTEBOOKS)
    home = '<p><a href="../index.html">The whole site</a></p>'
    contents = f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
    (out / "index.md").write_text(f"# Slides\n\n{home}\n\n{contents}", "utf-8")


if __name__ == "__main__":
    main()
