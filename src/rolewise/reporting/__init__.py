"""The token viewer, the report pages, and the cards of data sets and models."""
