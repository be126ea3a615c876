"""Detection on streams whose boxes are known."""
