"""`curate status`: what of a run is done, failed and left."""
