"""How a model is reached: a server, a child process, this process, a file of recorded replies."""
