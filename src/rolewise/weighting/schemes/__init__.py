"""The weightings of roles, one module each; `registry` finds them all."""
