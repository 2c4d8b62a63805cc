"""TRL trainers with a weighting, and the losses per token that they and the labellers read."""
