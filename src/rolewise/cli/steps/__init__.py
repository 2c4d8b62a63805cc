"""Steps of an experiment that run in their own processes. They are not commands."""
