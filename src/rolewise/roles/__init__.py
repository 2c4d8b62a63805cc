"""Labels by rule: format tokens that need no model."""
