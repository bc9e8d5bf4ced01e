"""What the commands of `langchain-sgd` do; each module is imported when its command is given."""
