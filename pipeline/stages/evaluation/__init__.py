"""`curate evaluate`: benchmark tasks."""
