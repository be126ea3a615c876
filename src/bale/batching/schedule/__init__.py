"""A Graph becomes a Schedule: which batches run, in which order."""

from bale.batching.schedule.bounds import lower_bound, lower_bound_by_type
from bale.batching.schedule.costs import Costs
from bale.batching.schedule.encoding import Encoding
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.policies import POLICIES, PolicyFunction, make_schedule
from bale.batching.schedule.portfolio import Portfolio
from bale.batching.schedule.schedule import Schedule

__all__ = [
    "POLICIES",
    "Costs",
    "Encoding",
    "Policy",
    "PolicyFunction",
    "Portfolio",
    "Schedule",
    "lower_bound",
    "lower_bound_by_type",
    "make_schedule",
]
