"""Stage 1, `curate reflect`: records -> candidates, by asking the teacher."""
