"""The paper, pure: no torch, no files."""
