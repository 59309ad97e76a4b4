"""What Sphinx is told; see `tools/site/stage.py`."""

import re
from pathlib import Path

project = "Variational auto-encoders in TensorFlow"
html_title = "VAEs in TensorFlow"
author = copyright = "the vae_lib authors"
smartquotes = False  # what a program prints stays as it is
extensions = ["myst_nb", "sphinx-mathjax-offline"]
exclude_patterns = ["pages"]
html_extra_path = ["pages"]

nb_execution_mode = "off"
# Widgets do not live without a kernel: what they leave behind is shown, and no script is asked for.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True

myst_enable_extensions = ["dollarmath", "amsmath", "html_image", "deflist"]
myst_heading_anchors = 4
# The addresses of the pages that are complete in themselves, which Sphinx does not know.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": {"url": "{{path}}#{{fragment}}"}}

html_theme = "sphinx_book_theme"
html_favicon = "favicon.svg"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2, "use_download_button": True, "navbar_persistent": []}
html_context = {"default_mode": "auto"}
html_last_updated_fmt = None
html_show_sourcelink = False


def polish(app, exception):
    """Take the theme's diary out of its scripts, so that what is left in a browser's console means something, and give
    its sidebar a name for those who hear the page; lead back from the page of the explorers."""
    out = Path(app.outdir)
    for path in [*out.glob("_static/scripts/*.js"), *out.glob("_static/*.js"), *out.rglob("*.html")]:
        text = before = path.read_text("utf-8")
        if path.suffix == ".js" or path.name == "search.html":
            text = re.sub(r"console\.(log|debug|info)\(", "void (", text)
        if path.suffix == ".html":
            text = text.replace('<div class="sidebar-primary-item">', '<div class="sidebar-primary-item" SECTION>', 1)
            text = text.replace("SECTION", 'role="region" aria-label="Title"')
        if path == out / "docs" / "index.html":
            text = text.replace("<body>", '<body>\n<p id="back"><a href="../index.html">The whole site</a></p>', 1)
        if text != before:
            path.write_text(text, "utf-8")


def setup(app):
    app.connect("build-finished", polish)
