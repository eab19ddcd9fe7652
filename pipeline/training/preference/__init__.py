"""Training on preference pairs: rows, reference, losses, trainer."""
