"""`curate synthesize`: new instructions of a teacher, round by round."""
