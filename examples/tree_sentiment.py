"""A network written for one tree, trained on many at once.

    python examples/tree_sentiment.py

The forward below handles a single tree in plain PyTorch. `bale.batch` runs a mini-batch of them together; the loss
falls as it would in a loop over trees, only faster. At the end bale says what it did.
"""

import torch
from torch.nn import functional as F

import bale
from bale.data import ptb_samples, ptb_vocabulary, random_ptb
from bale.models import NaryTreeLSTM

STEPS, BATCH, HIDDEN = 20, 16, 32


def main() -> list[float]:
    torch.manual_seed(0)
    trees = random_ptb(128, seed=0, words=200, leaves=8)
    words = ptb_vocabulary(trees)
    samples = ptb_samples(trees, words)  # (tree, label of its root)

    model = bale.batch(NaryTreeLSTM(len(words), classes=5, hidden=HIDDEN))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(STEPS):
        chosen = [samples[(step * BATCH + k) % len(samples)] for k in range(BATCH)]
        logits = torch.stack(model([tree for tree, _ in chosen]))  # [BATCH, 5]
        loss = F.cross_entropy(logits, torch.tensor([label for _, label in chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"step {step + 1}: loss {loss.item():.3f}")

    some = [tree for tree, _ in samples[:BATCH]]
    print(bale.check(model, some))
    bale.explain(model, some)
    return losses


if __name__ == "__main__":
    main()
