"""Evaluation sets, questions, answers and judgements."""
