"""`curate check`: which sampled replies are right, decided from what is on disk."""
