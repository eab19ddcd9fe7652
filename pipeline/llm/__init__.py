"""Any model that is asked: one request with its key, journal, budget and retries."""
