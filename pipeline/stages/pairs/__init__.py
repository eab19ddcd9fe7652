"""`curate pairs`: preference pairs of runs, verdicts, rated samples and demonstrations."""
