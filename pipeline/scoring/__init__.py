"""The student: tokens, packed rows, the model's head, mean negative log-likelihoods."""
