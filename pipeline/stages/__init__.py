"""One file a stage; stages meet only through Arrow files."""
