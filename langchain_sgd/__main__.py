"""`python -m langchain_sgd` is the command `langchain-sgd`."""

import sys

from langchain_sgd.cli import main

if __name__ == "__main__":
    sys.exit(main())
