"""What a reply says: its end and reasoning, the parts between markers, scores and ratings."""
