"""What several commands have in common: data, models that are asked, the student, a training."""
