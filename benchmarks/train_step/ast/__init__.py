"""A Child-Sum TreeLSTM over the syntax trees of Python's standard library; each function is classified."""
