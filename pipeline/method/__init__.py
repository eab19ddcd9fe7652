"""The method, pure: no torch, no files (docs/method.md)."""
