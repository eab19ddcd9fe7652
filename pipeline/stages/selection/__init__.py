"""Stage 2, `curate select`: candidates -> scores -> decisions -> Arrow data sets."""
