"""Local models behind TGI's protocol: two small bundled ones, or any GGUF file, on the CPU.

Importing this package loads neither an engine nor an HTTP server; the modules do:

- `server.EmbeddedServer` serves models on loopback, from scripts, notebooks and asyncio alike.
- `load.load` runs one model: with `openvino.OpenVINOEngine` where it can, else `llamacpp.LlamaCppEngine`.
- `app.make_app` speaks the protocol over any `engine.Engine`.
"""

from langchain_sgd._extras import require

require("embedded", "aiohttp", "text_generation")
