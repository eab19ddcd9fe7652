"""Models behind a server that is there already: requests one by one, or as batch jobs."""
