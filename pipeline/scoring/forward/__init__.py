"""Token sequences -> log-probabilities: packed rows, attention over them, the head."""
