"""A binary TreeLSTM over seeded random trees; the loss is a classification of every root."""
