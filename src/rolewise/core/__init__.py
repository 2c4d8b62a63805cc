"""Role names, errors, atomic files, seeds and run directories: what every other floor stands on."""
