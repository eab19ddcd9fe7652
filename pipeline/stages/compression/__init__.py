"""`curate bpc`: bits per character and per byte of a corpus under a student."""
