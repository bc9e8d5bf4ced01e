"""The words of the package's own prompts, and the examples that they show.

The paper's prompts are not public; these are our own.
"""

from __future__ import annotations

from typing import Final

from langchain_sgd.wire import JSON_KEY

LINES: Final = {
    "lines": "one heading a line",
    "json": f'as strings of the list {{"{JSON_KEY}":[]}}, one heading a string',
}
PLANNER: Final = """Plan long answers for several writers who write at the same time. Answer each question \
with the parts of a good answer, {lines}, in reading order and in the language of the question.
After a heading, < names the earlier parts that its writer must have read; only a part that weighs or \
sums up the others needs them. * marks a hard part. Write at most {max_nodes} parts.
Most questions have parts: explanations, comparisons, advice, reports, plans, lists. \
Answer {plain} only if the result is one text or one number: a program, a calculation, estimate or puzzle, \
data from a given text, a letter or e-mail, a post, a script, a review, a story, a speech of a character."""

EXAMPLES: Final = (
    (
        "I work night shifts and have two small children. How can I sleep better?",
        "1 Fixed sleep times\n2 Dark and quiet bedroom\n3 Food and drink\n4 Winding down\n5 Seeing doctors *",
    ),
    (
        "Write a Python function that reverses a string.",
        "PLAIN",
    ),
    (
        (
            "A farm wants to make its own power. Compare solar panels and wind turbines for it, "
            "with their costs. Which one do you recommend?"
        ),
        "1 Solar panels on farms\n2 Wind turbines on farms\n3 Costs of both *\n4 Recommendation <1,2,3 *",
    ),
    (
        "How many piano tuners work in Chicago? Explain how you get to the number, step by step.",
        "PLAIN",
    ),
    (
        "What if Napoleon had won at Waterloo?",
        "1 Power in Europe *\n2 Britain's position\n3 Laws and reforms\n4 Trade and colonies",
    ),
    (
        "You are an astronaut. Describe the launch and how you feel.",
        "PLAIN",
    ),
    (
        (
            "Please explain the differences between C and Rust. Include memory, speed and tools, "
            "and give examples of where each is used."
        ),
        "1 Memory and safety *\n2 Speed and tooling\n3 Learning each language\n4 Where each is used",
    ),
    (
        "Write a script for a radio show about bees. Include two guests and a joke.",
        "PLAIN",
    ),
    (
        "What is photosynthesis, and how does it work? Why does it matter?",
        "1 Light and chlorophyll\n2 Making sugar from carbon dioxide *\n3 Why it matters for life",
    ),
    (
        "Suggest three board games for a rainy afternoon, with a note on each.",
        "1 Catan for planners\n2 Dixit for dreamers\n3 Codenames for teams",
    ),
    (
        "Anna sits left of Ben. Ben sits left of Cem. Who sits in the middle, and why?",
        "PLAIN",
    ),
    (
        "Was sind die Vor- und Nachteile von Elektroautos? Ich wohne auf dem Land.",
        "1 Umwelt und Klima *\n2 Kosten im Alltag\n3 Reichweite und Laden\n4 Fahrgefühl und Technik",
    ),
    (
        (
            "Discuss how smartphones change schools. Describe the effects on learning and fairness, "
            "and derive advice for teachers."
        ),
        "1 Learning with apps\n2 Distraction in class\n3 Fairness and access *\n4 Advice for teachers <1,2,3",
    ),
    (
        "Write a thank-you letter to my teacher.",
        "PLAIN",
    ),
    (
        "Give an overview of the causes of the French Revolution.",
        "1 Debts of the crown\n2 Bread and hunger\n3 New ideas *\n4 Weak government",
    ),
    (
        (
            "I want to buy a used car from a neighbour and know little about cars. "
            "What do I have to check, and how?"
        ),
        "1 Papers and history\n2 Body and rust\n3 Engine and test drive *",
    ),
    (
        "Correct the spelling: She recieved to letters yesterday.",
        "PLAIN",
    ),
    (
        "What if electricity had been discovered in antiquity?",
        "1 Work and machines\n2 Light and cities\n3 War and power *\n4 Daily life",
    ),
    (
        "Make a plan for a school project about bees. Duration: three weeks.",
        "1 First week: life of bees\n2 Second week: visit to a beekeeper\n3 Third week: poster and talk",
    ),
    (
        "Write a report about tourism in Iceland: nature, prices, crowds.",
        "1 Nature and seasons\n2 Prices and income\n3 Crowds and rules *",
    ),
    (
        "How do I become better at public speaking?",
        "1 Preparing the talk\n2 Voice and posture\n3 Dealing with nerves *\n4 Practice and feedback",
    ),
)

ASK: Final = "{question}"

AFTER: Final = """

---
Do not answer yet. {instructions}

Examples, for other questions:
{examples}
The examples end here. Now write the plan for the question above the line ---."""

EXAMPLE: Final = "\nQuestion: {question}\n{plan}\n"

REPAIR: Final = """

Your last plan could not be used: {problem}
Write it again in the form shown."""

RESUME: Final = """

The plan was begun and not finished. It begins with these lines:
{lines}
Write it again from its first line on, these lines word for word, and then those that are missing."""

WRITER: Final = """Several writers answer a question together, each a part of it at the same time. \
Write your part in plain sentences: no list, no heading, no introduction, no conclusion. Say at once what \
matters: facts, reasons, an example. Leave to the others what belongs to their parts."""

# Small models keep to the length that they are told, and begin with facts instead of the question's words,
# once they have seen somebody do it; by words alone they do neither.
WRITER_EXAMPLES: Final = (
    (
        "How can I sleep better?",
        (
            "Fixed sleep times",
            "Food and drink",
            "Winding down",
            "Dark and quiet bedroom",
            "Seeing doctors",
        ),
        4,
        "one paragraph of 50 to 65 words",
        """Light tells the brain that it is day, so heavy curtains or a sleep mask help from the first \
night. Earplugs or a steady fan cover the noise of the street. At about 18 degrees the body loses heat \
more easily, which brings on sleep. Phones belong outside, because a glance at them wakes the mind \
again.""",
    ),
    (
        "What if Napoleon had won at Waterloo?",
        ("Power in Europe", "Britain's position", "Laws and reforms", "Trade and colonies"),
        4,
        "one paragraph of 45 to 60 words",
        """Britain would have kept its fleet but lost its customers on the Continent, since French tariffs \
would have closed the ports again. Manchester's mills would have sold more to India and South \
America. France, short of ships, would hardly have won back its colonies, so beet sugar would have \
spread even faster.""",
    ),
)

WRITER_EXAMPLE: Final = """

To the question "{question}", a part "{heading}", {length}, reads for example:
{text}"""

OUTLINE: Final = "\n\nThe parts of the answer, as far as planned:"

LINE: Final = "\n{id}. {heading}"

DEPENDENCIES: Final = "\n\nThese parts are already written, and yours must agree with them:"

DEPENDENCY: Final = "\n\n{fence} {id}. {heading}\n{answer}\n{fence}"

NODE: Final = '\n\nWrite only part {id}, "{heading}"{scope}: {length}.'

EXPAND: Final = """

Only part {id}, "{heading}"{scope}, is wanted now: {length}. What follows is about it alone."""

POINTS: Final = "\n\nAnswer with these points, {length} each:"

BEGUN: Final = "{id}. **{heading}**{scope}:"

FUSE: Final = """Give your answer above in the required form. Keep everything it says; leave out what has no \
place in the form, and add nothing."""

FINDINGS: Final = "\n\nThis has been found out for it:"

FINDING: Final = "\n\n{fence} {name}\n{text}\n{fence}"

FIELDS: Final = {
    "planner": {"max_nodes", "lines", "plain"},
    "ask": {"question"},
    "after": {"instructions", "examples"},
    "example": {"question", "plan"},
    "repair": {"problem"},
    "resume": {"lines"},
    "writer": set[str](),
    "writer_example": {"question", "heading", "length", "text"},
    "outline": set[str](),
    "line": {"id", "heading", "scope", "dependencies", "difficulty"},
    "dependencies": set[str](),
    "dependency": {"id", "heading", "answer", "fence"},
    "node": {"id", "heading", "scope", "difficulty", "length"},
    "expand": {"id", "heading", "scope", "difficulty", "length"},
    "points": {"length"},
    "begun": {"id", "heading", "scope"},
    "fuse": set[str](),
    "findings": set[str](),
    "finding": {"name", "text", "fence"},
}
"""What each template is given."""

NUMBERS: Final = {"max_nodes", "difficulty"}
"""Of those, the ones that are numbers."""
