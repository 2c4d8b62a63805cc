"""Settings of each labeller, one module per labeller; `registry` finds them all. Imports nothing heavy."""
