"""Bundled sample images; SOURCES.md says where each comes from and under which licence."""
