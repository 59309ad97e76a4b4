"""The site: `stage` lays out its sources in build/, and Sphinx builds them there with `conf.py`."""
