"""Tree search over functional tokens: trees, their search, and data made from them."""
