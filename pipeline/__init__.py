"""The stages of curate and what they stand on."""
