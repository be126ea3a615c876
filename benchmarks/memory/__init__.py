"""What do memory layouts copy, inside cells and between batches?"""
