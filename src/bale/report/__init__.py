"""What a run did and what a policy is, as text for people, as data for programs, as pictures."""

from bale.report.policies import draw_policy, draw_schedule
from bale.report.policy_tables import comparison_dict, comparison_table, policy_dict, policy_facts, policy_table
from bale.report.training import training_dict, training_table

__all__ = [
    "comparison_dict",
    "comparison_table",
    "draw_policy",
    "draw_schedule",
    "policy_dict",
    "policy_facts",
    "policy_table",
    "training_dict",
    "training_table",
]
