"""TRL trainers with a weighting, and the losses per token that the trainers and the labellers read."""
