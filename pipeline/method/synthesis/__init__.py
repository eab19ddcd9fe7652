"""New instructions out of replies: items and instances of Self-Instruct, Evol-Instruct's steps."""
