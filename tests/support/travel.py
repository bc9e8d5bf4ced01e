"""A question of three parts, and what a scripted engine says to it."""

from __future__ import annotations

PLAN = "1 Trains\n2 Planes *\n3 Advice <1,2 *"
REPLIES = {
    "Plan long answers": PLAN,
    "You organize the answer": "1. Trains\n2. Planes\n",
    "Write only part 1,": "Trains are slow.",
    "Write only part 2,": "Planes are loud.",
    "Write only part 3,": "Stay at home.",
    "Continue with point": "A point.",
    "": "An undivided answer.",
}

LONG_REPLIES = {**REPLIES, "": "An undivided answer." + " It goes on." * 12}
"""For engines that take their time: a plain answer that is whole before the plan is there is kept, and
nothing is split."""
