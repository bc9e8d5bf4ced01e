"""Consistent briefs: the domain of the bundled models, its checker and its prompts."""
