"""The weightings of regions, a module each; `registry` finds them all."""
