"""Runs in object stores: a working folder here, mirrored into the store."""
