"""From several answers to one prompt to preference pairs, or to a reason why there is none."""
