"""Conversations in, token ids out: schema, readers, rendering, shuffling, the labelled data set, the generator."""
