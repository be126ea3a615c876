"""bale makes neural networks cheap to run: look at the computation as data, plan it, run the plan, say what it cost."""

from bale.batching.api import Batched, batch, cell
from bale.batching.check import Checked, check
from bale.batching.explain import Explanation, explain
from bale.batching.schedule import POLICIES, lower_bound
from bale.batching.stats import Stats

__all__ = [
    "POLICIES",
    "Batched",
    "Checked",
    "Explanation",
    "Stats",
    "batch",
    "cell",
    "check",
    "explain",
    "lower_bound",
]
__version__ = "0.1.0"
