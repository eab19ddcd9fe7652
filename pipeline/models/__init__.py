"""Loads models and their tokenizers, and picks the devices that they run on."""
