"""The parts of `curate compare`: its training sets, preference pairs, judged answers."""
