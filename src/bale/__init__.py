"""bale makes neural networks cheap to run: look at the computation as data, plan it, run the plan, say what it cost."""

from bale.batching.api import Batched, batch, cell
from bale.batching.cells.rule import Rule
from bale.batching.check import Checked, check
from bale.batching.explain import Explanation, explain
from bale.batching.learn import learn_policy
from bale.batching.measure import measure_costs
from bale.batching.schedule import POLICIES, Costs, Encoding, Policy, Portfolio, lower_bound
from bale.batching.stats import Stats
from bale.batching.trace.trace import Trace
from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    CommunicationAwareConfig,
    MagnitudeConfig,
    SmartDealConfig,
    StructuredConfig,
    UniformQuantConfig,
    bake_,
    compress_,
)
from bale.hardware import Chip, Noise, load_chip, simulate

__all__ = [
    "POLICIES",
    "ADCAwareConfig",
    "Batched",
    "BlockCirculantConfig",
    "Checked",
    "Chip",
    "CommunicationAwareConfig",
    "Costs",
    "Encoding",
    "Explanation",
    "MagnitudeConfig",
    "Noise",
    "Policy",
    "Portfolio",
    "Rule",
    "SmartDealConfig",
    "Stats",
    "StructuredConfig",
    "Trace",
    "UniformQuantConfig",
    "bake_",
    "batch",
    "cell",
    "check",
    "compress_",
    "explain",
    "learn_policy",
    "load_chip",
    "lower_bound",
    "measure_costs",
    "simulate",
]
__version__ = "0.1.0"
