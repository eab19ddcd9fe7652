"""Data sets of every form, from disk, hub or URL, as records, questions, answers or judgements."""
