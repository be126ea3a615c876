"""What is a detector on a stream measured by?"""
