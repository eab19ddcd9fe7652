"""Processes: which one a number means, ranks, shares of the work, signals, work begun ahead."""
