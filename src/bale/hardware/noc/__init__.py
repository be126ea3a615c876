"""The network on chip: which way do numbers take between tiles, how long are they under way, what do they cost?"""
