"""The hub and object stores."""
