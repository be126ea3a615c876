"""Four published systems, each a way to compress and a machine that profits, beside their baselines and claims."""
