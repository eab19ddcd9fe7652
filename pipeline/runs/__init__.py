"""The run directory: layout, lock, shards, and the data sets and cards that come out."""
