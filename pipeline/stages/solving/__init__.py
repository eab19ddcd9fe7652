"""`curate solve`: samples of a model for problems with answers."""
