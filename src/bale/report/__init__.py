"""What a run did, as text for people and as data for programs."""

from bale.report.training import training_dict, training_table

__all__ = ["training_dict", "training_table"]
