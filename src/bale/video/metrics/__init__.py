"""How good were a stream's boxes, how sure is that, how late did they come, and at what cost?"""
