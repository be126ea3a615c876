"""A search over methods of compression, their numbers, and chips: cheap, small and accurate, within budgets."""

from bale.codesign.search.budgets import Budgets, Costs, parse_budget, parse_drop
from bale.codesign.search.design import CALIBRATION, Outcome, Problem, Splits, split
from bale.codesign.search.finish import Finished, Front, finish
from bale.codesign.search.front import Candidate, Nearest, front, nearest, pareto
from bale.codesign.search.space import STACKS, Design, Space
from bale.codesign.search.structure import Structure
from bale.codesign.search.study import Counts, Search
from bale.codesign.search.workers import work_together

__all__ = [
    "CALIBRATION",
    "STACKS",
    "Budgets",
    "Candidate",
    "Costs",
    "Counts",
    "Design",
    "Finished",
    "Front",
    "Nearest",
    "Outcome",
    "Problem",
    "Search",
    "Space",
    "Splits",
    "Structure",
    "finish",
    "front",
    "nearest",
    "pareto",
    "parse_budget",
    "parse_drop",
    "split",
    "work_together",
]
