"""What each command does, from files to files: one module per command, callable from Python."""
