"""Checked answers: where a reply marks one, what kind it is, whether it is right, how often."""
