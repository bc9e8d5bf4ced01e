"""Any chat model as a tier: vLLM, SGLang, llama.cpp and others speak OpenAI's protocol.

pip install langchain-openai
SMALL_URL=http://gpu-1:8000/v1 LARGE_URL=http://gpu-2:8000/v1 python examples/endpoints.py
"""

import os

from langchain_openai import ChatOpenAI

from langchain_sgd import SGDRunnable


def openai_style(url: str) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=url,
        model=os.environ.get("MODEL", "default"),
        api_key=os.environ.get("API_KEY", "none"),
        stream_usage=True,  # or the report has no token counts
        max_retries=0,  # SGD retries and escalates by itself; two layers would multiply
    )


def main() -> None:
    sgd = SGDRunnable(
        small=openai_style(os.environ["SMALL_URL"]),
        large=openai_style(os.environ["LARGE_URL"]),
        limits={"small": 16, "large": 8},  # most calls in flight at each
    )
    for chunk in sgd.stream("Compare trains, planes and cars for a family trip to Rome."):
        print(chunk.content, end="", flush=True)


if __name__ == "__main__":
    main()
