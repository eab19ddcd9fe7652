"""Where the work over shards runs."""
