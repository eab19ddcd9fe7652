"""A configuration's fields as flat options: on the command line, in `--config` files, recorded."""
