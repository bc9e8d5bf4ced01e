"""The commands of `langchain-sgd` and their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from langchain_sgd._version import __version__
from langchain_sgd.argument_groups import (
    add_decoding,
    add_endpoints,
    add_judging,
    add_key,
    add_listening,
    add_planning,
    add_proxying,
    add_question,
)
from langchain_sgd.argument_types import (
    Named,
    Parser,
    count,
    file_to_write,
    named_file,
    new_file,
    seconds,
)

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

BENCHES = {
    "schedule": "wall time over critical path, in virtual time",
    "overhead": "what planning, scheduling and streaming cost beside the models",
    "faces": "what Runnable, chat model and tool cost over the bare engine",
    "transport": "ChatTGI beside the stock clients on the same server",
    "tracing": "what tracing costs, and a graph around it",
    "resume": "which calls a killed run makes again",
    "saving": "how soon a finished part is saved",
    "engines": "tokens a second of local models, by streams at once",
    "embedded": "all methods on the bundled models: speed, steps, tokens, quality",
    "endpoints": "all methods on your servers and your questions",
    "planner": "plans alone: validity, routing, width, tokens, time",
    "calibrate": "the simulation's latency model, measured and checked",
    "simulate": "SIMULATION: the gain on models of real size",
    "load": "plain and SGD at 1 to 64 concurrent users; simulated, or --real",
}
"""Each is a module of `langchain_sgd.bench` with a `main(argv)`."""

_EPILOG = """\
models:
  --small, --large and --planner name a model; so do the environment variables
  SGD_SMALL, SGD_LARGE and SGD_PLANNER. A model is the URL of a server (TGI, vLLM,
  SGLang, llama.cpp, Ollama, LiteLLM, a gateway), with #model behind it where several
  are served; or provider:model, such as openai:gpt-6-luna. The large model plans if
  no planner is named, and writes every part if no small model is. If none is named,
  the bundled demonstration models answer. They know launch briefs only.

keys:
  Keys come from the environment only. For URLs: SGD_SMALL_API_KEY, SGD_LARGE_API_KEY
  and SGD_PLANNER_API_KEY, or SGD_API_KEY for all, or the variable that --api-key-env
  names. Providers have their own. The judge has SGD_JUDGE and SGD_JUDGE_API_KEY.
  Clients of proxy and mcp --http must send the value of SGD_PROXY_API_KEY, if it is set.

exit codes:
  0 done; 1 failed, or parts of the answer are missing; 2 wrong usage; 130 interrupted
"""


def _lazily(where: str, name: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        function = getattr(importlib.import_module(f"langchain_sgd.commands.{where}"), name)
        code: int = function(args)
        return code

    return run


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    whole = Parser(
        prog="langchain-sgd",
        description="Skeleton Graph Decoding: long answers, planned as a graph, decoded in parallel.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An option `--api-key` that stands for `--api-key-env` would print the key.
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        what: str,
        run: Callable[[argparse.Namespace], int],
        *,
        aliases: Sequence[str] = (),
    ) -> Parser:
        made = commands.add_parser(
            name,
            aliases=aliases,
            help=what,
            description=f"{what}.",
            parents=[common],
            allow_abbrev=False,
        )
        made.set_defaults(run=run)
        return made

    ask = command("ask", "answer a question, and show how", _lazily("asking", "ask"))
    add_question(ask)
    add_endpoints(ask)
    add_decoding(ask)
    ask.add_argument("--plain", action="store_true", help="only the text, as it comes")
    ask.add_argument(
        "--json",
        type=file_to_write,
        metavar="FILE",
        help="write answer and report; - for standard output",
    )

    plan = command("plan", "plan a question without answering it", _lazily("asking", "plan"))
    add_question(plan)
    add_endpoints(plan)
    add_planning(plan)
    formats = ("tree", "mermaid", "json", "svg")
    plan.add_argument("--format", choices=formats, default="tree", help="default: %(default)s")

    demo = command(
        "demo",
        "race plain decoding and SGD on a question, with the bundled models",
        _lazily("demo", "demo"),
    )
    demo.add_argument(
        "--questions",
        type=count(1),
        default=8,
        metavar="N",
        help="how many are measured; the middle one is shown; default: %(default)s",
    )
    demo.add_argument(
        "--seed", type=int, metavar="N", help="of the questions; another one each time if not given"
    )
    demo.add_argument("--plain", action="store_true", help="no motion: the last picture only")
    demo.add_argument("--web", action="store_true", help="open the live page instead")
    demo.add_argument(
        "--svg", type=new_file, metavar="FILE", help="write the race as a moving picture"
    )

    serve = command(
        "serve", "serve models with TGI's protocol and OpenAI's", _lazily("serving", "serve")
    )
    serve.add_argument(
        "--model",
        action=Named,
        default={},
        type=named_file,
        metavar="NAME=PATH",
        help="a GGUF file, or a folder in OpenVINO's format, under a name, such as large=/models/x.gguf;"
        " the bundled ones if not given",
    )
    serve.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    serve.add_argument("--port", type=count(0, 65535), default=0, help="default: a free one")
    serve.add_argument(
        "--slots",
        type=count(1),
        default=8,
        metavar="N",
        help="requests decoded together; default: %(default)s",
    )
    serve.add_argument(
        "--context",
        type=count(16),
        metavar="N",
        help="most tokens of a request; default: 4096, or fewer if a model takes fewer",
    )
    serve.add_argument(
        "--engine",
        choices=("auto", "openvino", "llamacpp"),
        default="auto",
        help="what runs the files; default: OpenVINO where it can, else llama.cpp",
    )
    serve.add_argument("--threads", type=count(1), metavar="N", help="for each model")
    add_key(serve, "environment variable that holds the key that clients must send")

    proxy = command(
        "proxy",
        "serve OpenAI's protocol and a live page in front of SGD",
        _lazily("proxy", "proxy"),
    )
    add_endpoints(proxy)
    add_listening(proxy, port=8400)
    add_proxying(proxy)

    mcp = command(
        "mcp", "serve SGD as a tool of the Model Context Protocol", _lazily("proxy", "mcp")
    )
    add_endpoints(mcp)
    mcp.add_argument(
        "--http", action="store_true", help="over HTTP instead of standard input/output"
    )
    add_listening(mcp, port=8401)

    check = command(
        "check",
        "tell whether models can plan and SGD is worth it; without models, on this machine",
        _lazily("check", "check"),
        aliases=["doctor"],
    )
    add_endpoints(check)
    check.add_argument(
        "--questions", type=count(0), default=5, metavar="N", help="planned; default: %(default)s"
    )
    check.add_argument(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="of the whole check; default: %(default)g",
    )
    check.add_argument(
        "--json",
        type=file_to_write,
        metavar="FILE",
        help="write the findings; - for standard output",
    )

    judge = command(
        "judge", "compare answers in pairs by a judge model", _lazily("judging", "judge")
    )
    add_judging(judge)

    bench = commands.add_parser("bench", help="measure; without a name, list what", add_help=False)
    # After a name, it belongs to the benchmark.
    bench.add_argument("-h", "--help", action="store_true", help=argparse.SUPPRESS)
    bench.add_argument("name", nargs="?", choices=BENCHES, metavar="NAME")
    bench.add_argument("rest", nargs=argparse.REMAINDER)
    bench.set_defaults(run=_lazily("bench", "bench"), debug=False)
    return whole
