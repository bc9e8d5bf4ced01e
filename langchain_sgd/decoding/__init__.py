"""From a node to its answer: tiers and routing, limits, retries, one model call."""
