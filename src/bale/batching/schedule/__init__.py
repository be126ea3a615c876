"""A Graph becomes a Schedule: which batches run, in which order."""

from bale.batching.schedule.bounds import lower_bound, lower_bound_by_type
from bale.batching.schedule.policies import POLICIES, Policy, make_schedule
from bale.batching.schedule.schedule import Schedule

__all__ = ["POLICIES", "Policy", "Schedule", "lower_bound", "lower_bound_by_type", "make_schedule"]
