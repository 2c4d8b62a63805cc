"""Role names, errors, atomic files, seeds and run directories: the basis of every other floor."""
