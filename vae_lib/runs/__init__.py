"""Runs: folders under ``pickles/`` that hold a trained model and its record, and how they come to be."""
