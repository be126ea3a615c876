"""What every race needs: contestants, those of other frameworks in environments of their own, and rounds."""
