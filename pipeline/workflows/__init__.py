"""Several stages in a row: what `curate run` and `curate demo` do."""
