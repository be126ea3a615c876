"""The workloads in DyNet, one sample after another, as a user writes them; its autobatching does the rest."""
