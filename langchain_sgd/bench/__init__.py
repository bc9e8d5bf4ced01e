"""Measurements as commands: each prints a table and writes JSON; `langchain-sgd bench NAME`."""
