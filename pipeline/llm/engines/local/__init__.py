"""Models on this machine: in this process, or behind a vLLM server that we start."""
