"""Tree search over functional tokens: trees, their search, and what is made of them."""
