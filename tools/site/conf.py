"""What Sphinx is told; see `tools/site/stage.py`."""

from pathlib import Path

project = "Variational auto-encoders in TensorFlow"
html_title = "VAEs in TensorFlow"
copyright = "the vae_lib authors"
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
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2, "use_download_button": True, "navbar_persistent": []}
html_context = {"default_mode": "auto"}
html_last_updated_fmt = None
html_copy_source = False
html_show_sourcelink = False


def silence(app, exception):
    """Take the theme's diary out of its scripts, so that what is left in the console of a browser means something."""
    for script in Path(app.outdir, "_static", "scripts").glob("*.js"):
        script.write_text(script.read_text("utf-8").replace("console.log(", "void ("), "utf-8")


def setup(app):
    app.connect("build-finished", silence)
