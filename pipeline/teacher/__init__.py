"""The teacher: engines behind one protocol, the journal, the flow of requests."""
