"""What leaves a run: data sets that `datasets` loads, with their cards."""
