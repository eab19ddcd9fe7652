"""The student: mean negative log-likelihoods of spans."""
