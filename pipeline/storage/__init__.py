"""Readers of data sets and the run directory."""
