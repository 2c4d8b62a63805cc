"""The job of each command, from files to files: one module per command, callable from Python."""
