"""Says which extra is missing, before anything else of this room is imported."""

from langchain_sgd._extras import require

require("tgi", "aiohttp", "text_generation")
