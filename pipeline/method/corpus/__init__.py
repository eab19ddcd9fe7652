"""Records against one another and against evaluation sets."""
