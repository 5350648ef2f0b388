"""So that `embedding_support` is found, as `support` is."""
