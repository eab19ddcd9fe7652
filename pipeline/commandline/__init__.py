"""What the commands of cli.py share."""
