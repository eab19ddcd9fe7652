"""Teacher prompts and student templates, one text file each."""
