"""Labels that need a model: SHAD."""
