"""The stack LSTM: a shift-reduce parser that sees all of its stack, of the words to come and of what it did.

Dyer, Ballesteros, Ling, Matthews, Smith, "Transition-Based Dependency Parsing with Stack Long Short-Term Memory", ACL
2015, sections 2 and 3. Theirs joins words by labelled arcs; here there are two actions, without labels: SHIFT and
REDUCE, which joins the two topmost things on the stack. A word's vector is learnt alone, not beside a pretrained one
and a part of speech, and an empty stack is a state of zeros where theirs is learnt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bale.models.chains import run

SHIFT = 0
REDUCE = 1
ACTIONS = 2


class Compose(nn.Module):
    """The vector of two things joined (section 3.2): tanh(U [left; right] + e)."""

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.join = nn.Linear(2 * embed, embed)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Take two vectors [embed]; return one [embed]."""
        return self.join(torch.cat([left, right], -1)).tanh()


class Choose(nn.Module):
    """The logits of the next action from the parser's state p = max(0, W [s; b; a] + d) (section 3.1)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.state = nn.Linear(3 * hidden, hidden)
        self.logits = nn.Linear(hidden, ACTIONS)

    def forward(self, stack: Tensor, buffer: Tensor, actions: Tensor) -> Tensor:
        """Take h of the stack, of the buffer and of the actions [hidden]; return logits [2]."""
        return self.logits(self.state(torch.cat([stack, buffer, actions], -1)).relu())


class StackLSTM(nn.Module):
    """Score every action of a parse, given the sentence and the actions before it.

    Args:
        vocabulary: the number of words.
        embed: the width of the vectors of words, of what they are joined to, and of actions.
        hidden: the width of the states h and c of the three LSTMs.

    Raises ValueError for a sentence without words, for no actions, and for an action that is none or cannot be taken (a
    SHIFT when every word has been shifted, a REDUCE of fewer than two things), naming its place; IndexError for a word
    not in 0 .. `vocabulary` - 1.

    >>> model = StackLSTM(vocabulary=100, embed=8, hidden=16)
    >>> model(((5, 17, 3), (SHIFT, SHIFT, REDUCE, SHIFT, REDUCE))).shape
    torch.Size([5, 2])
    """

    zero: Tensor

    def __init__(self, vocabulary: int, embed: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.action_embed = nn.Embedding(ACTIONS, embed)
        self.stack = nn.LSTMCell(embed, hidden)
        self.buffer = nn.LSTMCell(embed, hidden)
        self.history = nn.LSTMCell(embed, hidden)
        self.compose = Compose(embed)
        self.choose = Choose(hidden)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # h and c of what is empty

    def forward(self, sample: tuple[Sequence[int] | Tensor, Sequence[int]]) -> Tensor:
        """Take (the numbers of a sentence's words [length], the actions to take, each SHIFT or REDUCE).

        Return the logits of every action before it is taken [actions, 2].
        """
        words, actions = sample
        check(len(words), actions)
        empty = (self.zero, self.zero)
        row = self.embed(torch.as_tensor(words, device=self.zero.device)).unbind()
        taken_before = torch.as_tensor(actions[:-1], device=self.zero.device)  # [actions - 1]
        vectors = self.action_embed(taken_before).unbind() if len(taken_before) else ()
        history = run(self.history, vectors, *empty)  # after each action
        # The last word lies deepest in the buffer, so that to shift is to go back to the state before a word was read.
        buffer = [empty] + run(self.buffer, row[::-1], *empty)
        stack = [empty]
        values: list[Tensor] = []  # the vectors on the stack, a state above the empty one for each
        logits: list[Tensor] = []
        choose, compose, push = self.choose, self.compose, self.stack
        for action, (taken, _) in zip(actions, [empty, *history], strict=True):
            logits.append(choose(stack[-1][0], buffer[-1][0], taken))
            if action == SHIFT:
                buffer.pop()
                values.append(row[len(row) - len(buffer)])
            else:
                del stack[-2:]
                right, left = values.pop(), values.pop()
                values.append(compose(left, right))
            stack.append(push(values[-1], stack[-1]))
        return torch.stack(logits)


def check(words: int, actions: Sequence[int]) -> None:
    """Raise ValueError unless a sentence of so many words can be parsed by these actions, to its end or not."""
    if words == 0:
        raise ValueError("a sentence has at least one word, got none")
    if len(actions) == 0:
        raise ValueError("a parse has at least one action, got none")
    shifted = size = 0  # words that have been shifted, things on the stack
    for place, action in enumerate(actions):
        if action not in (SHIFT, REDUCE):
            raise ValueError(f"action {place} is {action}: neither SHIFT ({SHIFT}) nor REDUCE ({REDUCE})")
        if action == SHIFT and shifted == words:
            raise ValueError(f"action {place} is a SHIFT, and all {words} words have been shifted")
        if action == REDUCE and size < 2:
            raise ValueError(f"action {place} is a REDUCE, which joins two things, and the stack holds {size}")
        shifted += action == SHIFT
        size += 1 if action == SHIFT else -1
