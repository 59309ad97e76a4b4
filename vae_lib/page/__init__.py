"""Runs as single HTML files."""
