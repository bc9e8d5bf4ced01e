"""Any server as a tier: vLLM, SGLang, llama.cpp, Ollama, LiteLLM, TGI, or a hosted model.

pip install "langchain-sgd[openai]"
SMALL=http://gpu-1:8000 LARGE=http://gpu-2:8000 python examples/endpoints.py
SMALL=http://localhost:11434#qwen2.5:3b LARGE=http://localhost:11434#qwen2.5:14b python examples/endpoints.py
LARGE=openai:gpt-6-luna python examples/endpoints.py   # with "langchain-sgd[openai,providers]"
"""

import os
import sys

from langchain_sgd import SGDRunnable


def main() -> None:
    if "LARGE" not in os.environ:
        sys.exit("Set LARGE to the URL of a model server, such as LARGE=http://gpu-1:8000")
    sgd = SGDRunnable(
        small=os.environ.get("SMALL"),
        large=os.environ["LARGE"],  # asked at the first call what it is; keys: SGD_API_KEY
        limits={"large": 8},  # most calls in flight there
    )
    for chunk in sgd.stream("Compare trains, planes and cars for a family trip to Rome."):
        print(chunk.content, end="", flush=True)


if __name__ == "__main__":
    main()
