"""Lay out the sources of the site: ``python -m tools.site.stage FOLDER``; ``make site`` builds them.

The pages lie where they lie in the repository, so that their links hold. Nothing is executed: notebooks come with the
outputs that they are stored with. The reference of the package is written from its docstrings. The pages that live
without a kernel are written into ``pages/docs`` by ``tools.build_site``.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat

import vae_lib
from tools.hosted import BADGES, PLACEHOLDER, TAG, address

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb"))
CARDS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/cards/*.md"))
PARTS = {  # of the table of contents
    "The notebooks": CHAPTERS,
    "Without a kernel": ["docs/live.md"],
    "Reference": [
        "docs/api.md", "docs/reference.md", "docs/commands.md", "docs/cheat_sheet.md", "docs/glossary.md",
        "docs/bad-input.md", "docs/files.md", "vae_lib/README.md",
    ],
    "Measured": [
        "docs/scoreboard.md", *CARDS, "docs/gallery.md", "docs/speed.md", "docs/scale.md", "benchmarks/RESULTS.md",
        "benchmarks/PROFILE.md", "benchmarks/COST.md", "benchmarks/STREAMING.md", "benchmarks/ALIVE.md",
        "benchmarks/TRIED.md",
    ],
    "The project": [
        "docs/teaching.md", "docs/hosting.md", "pickles/README.md", "docs/README.md",
        "vae_lib/data/samples/SOURCES.md", "CONTRIBUTING.md", "CHANGELOG.md",
    ],
}  # fmt: skip
GROUPS = {  # of the reference; what is in none of them comes last
    "First": ["VAE", "load_data", "train", "evaluate", "manifold", "explore", "watch", "save_run", "load_run"],
    "Pictures and pages": ["reconstructions", "samples", "spiral_frames", "explorer_page", "dissect"],
    "More numbers": ["evaluate_elbo", "refine", "match_prior", "Elbo", "Encodings"],
    "Runs from a config": [
        "RunConfig", "DataConfig", "ModelConfig", "TrainingConfig", "train_run", "resume_run", "list_runs", "Run",
    ],
}  # fmt: skip
LIVE = """# Lab, explorers and slides

These pages stand beside the others: they need a browser and nothing else, and can be opened from disk.

- [The lab](site:lab.html): a VAE trains before your eyes. Draw for it, change beta while it runs, switch on a mistake.
- [The explorers](site:index.html): sliders on five trained models, of digits, garments and faces.
- [The slides](site:../slides/index.html) of each notebook, for a lecture; the arrow keys lead through them.
"""
PROMPTS = {"solution": "Show a solution", "key": "Show which is which (it gives the answers away)"}
ICON = (  # two ellipses of a latent plane
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#1a1a2e"/>'
    '<ellipse cx="12" cy="13" rx="7" ry="4" fill="#56b4e9"/>'
    '<ellipse cx="20" cy="21" rx="4" ry="6" fill="#e69f00"/></svg>'
)
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=[)\s])")
FRAME = (  # as high as what it holds, where a page may ask that, which it may not from disk
    '\n\n<iframe src="{target}" title="{title}" loading="lazy" '
    'style="width: 100%; height: 46rem; border: 1px solid #8888; border-radius: 4px" onload="try '
    "{{ this.style.height = this.contentDocument.documentElement.scrollHeight + 2 + 'px' }} catch {{}}\"></iframe>\n"
)


def links_of(text: str, page: Path) -> str:
    """The text of a page with its links as the site needs them; files that it links are copied beside it.

    A page that is complete in itself keeps its address, and is no page of Sphinx's: see `conf.py`.
    """

    def change(match: re.Match[str]) -> str:
        target = match.group(1)
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return target
        inside = Path(os.path.normpath(page.parent / path)).as_posix()
        if inside.endswith(".html"):
            return f"site:{target}"
        if inside == "README.md":
            return os.path.relpath("index.md", page.parent) + (f"#{anchor}" if anchor else "")
        return target

    return LINK.sub(change, text)


def copy_linked(text: str, page: Path, out: Path) -> None:
    """Copy the files of the repository that a page links or shows."""
    for target in [*LINK.findall(text), *re.findall(r'src="([^"]+)"', text)]:
        inside = os.path.normpath(page.parent / target.partition("#")[0])
        source, place = ROOT / inside, out / inside
        if source.is_file() and not place.exists() and source.suffix not in (".md", ".ipynb", ".html"):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)


def stage_page(name: str, out: Path, to: str | None = None) -> None:
    """A page in Markdown."""
    text, place = (ROOT / name).read_text("utf-8"), out / (to or name)
    copy_linked(text, Path(name), out)
    place.parent.mkdir(parents=True, exist_ok=True)
    text = links_of(text, Path(name)).replace("`build/site/slides`", "[`slides`](site:../slides/index.html)")
    text = text.replace(" (code hosts show its source only)", "")  # of the lab, which is a page here
    place.write_text(text, "utf-8")


def stage_notebook(name: str, out: Path) -> None:
    """A notebook; where it first links a page that lives without a kernel, the page is shown below."""
    book, shown = nbformat.read(ROOT / name, as_version=4), set[str]()
    if PLACEHOLDER in address():  # whose badges lead nowhere
        book.cells[0].source = BADGES.sub("", book.cells[0].source)
    for cell in book.cells:
        if cell.cell_type != "markdown":
            _stage_code(cell)
            continue
        copy_linked(cell.source, Path(name), out)
        cell.source = links_of(cell.source, Path(name))
        for target in re.findall(r"site:([^)#]+)", cell.source):
            if target not in shown:
                title = "The lab" if "lab" in target else f"The explorer of {Path(target).stem}"
                cell.source += FRAME.format(target=target, title=title)
                shown.add(target)
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, place)


def _stage_code(cell: nbformat.NotebookNode) -> None:
    """Alternative texts, names of what is folded away, and words in the place of sliders that do not move.

    The cell that installs the package is not shown: a reader installs nothing. It is part of what can be downloaded.
    """
    tags = cell.metadata.setdefault("tags", [])
    if TAG in tags:
        tags.append("remove-cell")
    settings: dict[str, Any] = {
        "code_prompt_show": next((PROMPTS[tag] for tag in tags if tag in PROMPTS), "Show the code"),
        "code_prompt_hide": "Hide it",
    }
    for output in cell.outputs:
        data = output.get("data", {})
        for kind in ("image/png", "image/gif"):
            if words := output.get("metadata", {}).get(kind, {}).get("alt"):
                settings["image"] = {"alt": words}
        if "application/vnd.jupyter.widget-view+json" in data and "text/html" not in data:
            data["text/html"] = "<em>Sliders, which appear where the notebook runs.</em>"
    cell.metadata["mystnb"] = settings


def reference() -> str:
    """The public names of the package, from their docstrings; each name in a text leads to its own."""
    lines = ["# The package", "", "The public names of `vae_lib`, which `from vae_lib import ...` gives.", ""]
    grouped = [name for names in GROUPS.values() for name in names]
    for group, names in (GROUPS | {"More": [name for name in vae_lib.__all__ if name not in grouped]}).items():
        lines += [f"## {group}", ""]
        for name in names:
            thing = getattr(vae_lib, name)
            lines += [f"### {name}", "", *_described(name, thing)]
            for method, found in vars(thing).items() if inspect.isclass(thing) else ():
                plain = getattr(found, "__func__", found)
                if not method.startswith("_") and inspect.isfunction(plain) and inspect.getdoc(plain):
                    lines += [f"#### {name}.{method}", "", *_described(method, plain)]
    return "\n".join(lines) + "\n"


def _described(name: str, thing: Any) -> list[str]:
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = "(...)"
    signature = re.sub(r"(?<=[:>] )'([^']*)'", r"\1", signature)  # annotations, and no defaults
    signature = re.sub(r"ForwardRef\('([^']+)'[^)]*\)", r"\1", signature).replace("<factory>", "...")
    call = f"{name}{signature}"
    if len(call) > 100:
        inner = signature[1 : signature.rindex(")")]
        parts = re.split(r", (?![^\[(]*[\])])", inner)
        call = f"{name}(\n    " + ",\n    ".join(parts) + f",\n){signature[signature.rindex(')') + 1 :]}"
    return ["```python", call, "```", "", *_paragraphs(inspect.getdoc(thing) or ""), ""]


def _paragraphs(text: str) -> list[str]:
    """A docstring as Markdown: its examples become blocks of code."""
    lines: list[str] = []
    text = re.sub(r"(?<=\w)-\n *(?=\w)", "-", text.replace("``", "`"))
    for paragraph in text.split("\n\n"):
        if paragraph.lstrip().startswith(">>>"):
            lines += ["```pycon", *textwrap.dedent(paragraph).splitlines(), "```", ""]
        else:
            linked = re.sub(r"`(\w+)(?:\(\))?`", _link_to, re.sub(r"(?<=[\w)])\*(?=\w)", r"\*", paragraph))
            lines += [*linked.splitlines(), ""]
    return lines


def _link_to(name: re.Match[str]) -> str:
    return f"[{name.group()}](#{name[1].lower()})" if name[1] in vae_lib.__all__ else name.group()


def main() -> None:
    out = Path(sys.argv[1])
    if out.exists() and not (out / "favicon.svg").is_file():  # which this writes
        sys.exit(f"{out} was not made by this: give another folder.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for own in ("conf.py", "site.css"):
        shutil.copyfile(Path(__file__).with_name(own), out / own)
    (out / "favicon.svg").write_text(ICON, "utf-8")
    stage_page("README.md", out, "index.md")
    written = {"docs/live.md": LIVE, "docs/api.md": reference()}
    for names in PARTS.values():
        for name in names:
            if name.endswith(".ipynb"):
                stage_notebook(name, out)
            elif name not in written:
                stage_page(name, out)
    for name, text in written.items():
        (out / name).write_text(text, "utf-8")
    contents = "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {part}\n\n" + "\n".join(names) + "\n```\n"
        for part, names in PARTS.items()
    )
    with open(out / "index.md", "a", encoding="utf-8") as file:
        file.write("\n" + contents)


if __name__ == "__main__":
    main()
