"""How do policies read, to a person and to a program: one by its states, many by the batches that they make?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale import __version__
from bale.batching.schedule import Encoding, Policy
from bale.batching.schedule.compare import PolicyComparison
from bale.batching.schedule.encoding import describe
from bale.batching.schedule.fingerprint import labels, short_label
from bale.batching.schedule.transitions import UNSEEN, Place, Transitions, learned_transitions
from bale.report.grids import fact_grid
from bale.train import PolicyConfig, Task, task_of

FORMAT = 1
_SEEN = {
    Encoding.BASE: "the ready types",
    Encoding.MAX: "the ready types, and which has most nodes",
    Encoding.SORT: "the ready types, most nodes first",
    Encoding.SHARE: "the two ready types of highest share",
}
_COLUMNS = 4  # so many mini-batches have a column each; of more, the fewest and the most batches are shown


def policy_dict(policy: Policy, transitions: Transitions | None = None) -> dict[str, Any]:
    """Return a policy as JSON can hold it, in words.

    `transitions` say how often each state was met ("times"), by default in the last run of learning.
    """
    transitions = learned_transitions(policy) if transitions is None else transitions
    names, times = labels(policy.types), _times(transitions)
    return {
        "format": FORMAT,
        "bale": __version__,
        "policy": policy.name,
        "encoding": str(policy.encoding),
        "backward": policy.backward,
        "learned": {name: fact for name, fact in policy.learned.items() if name != "transitions"},
        "types": names,
        "states": [
            {"state": describe(policy.encoding, state, names), "run": names[choice], "times": times[number]}
            for number, (state, choice) in enumerate(zip(policy.states, policy.choices, strict=True))
        ],
        "sure": [{"run": name, "times": times[f"sure {kind}"]} for kind, name in enumerate(names)],
        "unseen": times[UNSEEN],
        "transitions": transitions,
    }


def policy_table(policy: Policy, transitions: Transitions | None = None, every: bool = False) -> RenderableType:
    """Return a policy for a rich console: what is known of it, and its states, those first that were met most often.

    `transitions` say how often that was, by default in the last run of learning. Of states that were never met only the
    number is given, but where `every` one is asked for, or nothing is known of how often.
    """
    transitions = learned_transitions(policy) if transitions is None else transitions
    names, times = [short_label(name) for name in labels(policy.types)], _times(transitions)
    rows = [
        (times[number], names[choice], ", ".join(describe(policy.encoding, state, names)))
        for number, (state, choice) in enumerate(zip(policy.states, policy.choices, strict=True))
    ]
    rows += [(times[f"sure {kind}"], name, "(sure to shorten what remains)") for kind, name in enumerate(names)]
    rows.append((times[UNSEEN], "(as height chooses)", "(not in the table)"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("times", justify="right")
    table.add_column("runs")
    table.add_column(f"state ({_SEEN[policy.encoding]})")
    for count, runs, state in sorted(rows, key=lambda row: -row[0]):
        if count or ((every or not transitions) and not state.startswith("(")):
            table.add_row(f"{count:,}" if transitions else "", Text(runs), Text(state))
    unmet = sum(not times[number] for number in range(len(policy.states)))
    if transitions and unmet and not every:
        table.add_row("0", "", f"(the other {unmet:,} states of the table)")
    return Group(policy_facts(policy), Text(), table)


def policy_facts(policy: Policy) -> RenderableType:
    """Return what is known of a policy, without its states: one line for each fact."""
    learned, task = policy.learned, task_of(policy)
    facts = [
        ("policy", f"{policy.name}: {len(policy.states):,} states over {len(policy.types)} types of calls"),
        ("plans", "from the last batch to the first" if policy.backward else "from the first batch to the last"),
    ]
    if task is not None:
        limit = "" if task.limit is None else f", {task.limit:,} samples"
        facts.append(("for", f"{task.data_name}{limit}; {task.model or 'its model'}, hidden {task.hidden}"))
    if "mini_batches" in learned:
        size = f" of {learned['batch_size']} samples" if "batch_size" in learned else ""
        several = "es" if learned["mini_batches"] != 1 else ""
        facts.append(
            ("learned", f"on {learned['mini_batches']} mini-batch{several}{size}, {learned.get('nodes')} nodes")
        )
    if "episodes" in learned:
        facts.append(("episodes", f"{learned['episodes']} until the best table, seed {learned.get('seed')}"))
    if "batches" in learned:
        facts.append(("batches", f"{learned['batches']} there; at least {learned.get('bound')} are needed"))
    return fact_grid(facts)


def comparison_dict(comparison: PolicyComparison, task: Task, config: PolicyConfig) -> dict[str, Any]:
    """Return a comparison as JSON can hold it; times, which differ from run to run, stand apart at its end."""
    bound = sum(comparison.bound)
    return {
        "format": FORMAT,
        "bale": __version__,
        "task": {
            "data": task.config.data_name,
            "model": task.model,
            "hidden": task.config.hidden,
            "limit": task.config.limit,
        },
        "batch_size": config.batch_size,
        "seed": config.seed,
        "mini_batches": [
            {"nodes": nodes, "bound": least} for nodes, least in zip(comparison.nodes, comparison.bound, strict=True)
        ],
        "bound": bound,
        "policies": [
            {
                "policy": name,
                "batches": list(made.batches),
                "total": sum(made.batches),
                "ratio": sum(made.batches) / bound if bound else 1.0,
                "unseen": made.unseen,
            }
            for name, made in comparison.made.items()
        ],
        "microseconds_per_node": {name: 1e6 * made.seconds for name, made in comparison.made.items()},
    }


def comparison_table(comparison: PolicyComparison) -> RenderableType:
    """Return a comparison for a rich console: batches, and beside them how long each policy thinks about a node."""
    count = len(comparison.bound)
    table = Table(
        title=f"batches of {count} mini-batch{'es' if count != 1 else ''} held out, {sum(comparison.nodes):,} nodes",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("policy")
    each = [str(k + 1) for k in range(count)] if count <= _COLUMNS else ["fewest", "most"]
    for heading in (*each, "total", "x bound", "unseen", "us/node"):
        table.add_column(heading, justify="right")
    bound = sum(comparison.bound)
    best = min((sum(made.batches) for made in comparison.made.values()), default=0)
    table.add_row("(lower bound)", *_numbers(comparison.bound), f"{bound:,}", "", "", "", style="dim")
    for name, made in comparison.made.items():
        table.add_row(
            Text(name),
            *_numbers(made.batches),
            f"{sum(made.batches):,}",
            f"{sum(made.batches) / bound:.3f}" if bound else "",
            f"{made.unseen:,}" if made.unseen else "",
            f"{1e6 * made.seconds:.2f}",
            style="bold" if sum(made.batches) == best else "",
        )
    return table


def _numbers(batches: Sequence[int]) -> list[str]:
    return [f"{number:,}" for number in (batches if len(batches) <= _COLUMNS else (min(batches), max(batches)))]


def _times(transitions: Transitions) -> Counter[Place]:
    """How often each place was met."""
    times: Counter[Place] = Counter()
    for _, target, count in transitions:
        times[target] += count
    return times
