"""A training's folder: claimed by one, checkpoints, the model, its card and loss curve."""
