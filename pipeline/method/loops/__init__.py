"""Self-improvement loops: recipes, what is trained on, what is measured, when to stop. Pure."""
