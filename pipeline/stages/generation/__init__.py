"""`curate generate`: answers of a model to an evaluation set."""
