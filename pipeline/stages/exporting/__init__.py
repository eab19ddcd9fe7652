"""`curate export`: a selection in the format of a training tool."""
