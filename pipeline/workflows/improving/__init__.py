"""The parts of `curate improve`: its data, its stages, an iteration's steps, its measures."""
