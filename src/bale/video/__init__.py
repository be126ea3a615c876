"""Detection on a stream: an expensive network is run as seldom and on as little as accuracy allows."""
