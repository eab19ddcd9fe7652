"""Tallies, means and intervals."""
