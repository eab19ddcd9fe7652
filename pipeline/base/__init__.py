"""What every other room stands on: files, checksums, progress, signals, processes."""
