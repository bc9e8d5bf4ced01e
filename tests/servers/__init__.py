"""Checks against real model servers on this machine; `make servers` runs them."""
