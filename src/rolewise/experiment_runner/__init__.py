"""A matrix of models, methods, settings and seeds as resumable runs, and one table that compares them."""
