"""A BiLSTM tagger of two layers; the loss is a classification of every word."""
