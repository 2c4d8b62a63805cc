"""Options of every command: shared groups, and one class per command. Imports nothing heavy."""
