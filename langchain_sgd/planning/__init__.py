"""From a question to a skeleton: the wire format, its parser, the planner."""
