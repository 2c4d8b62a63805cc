"""A matrix of models, methods, settings and seeds as runs that can be resumed, and one table that compares them."""
