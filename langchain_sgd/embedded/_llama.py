"""llama.cpp's own C interface, as the xllamacpp wheel exports it.

xllamacpp ships llama.cpp and llguidance in one shared library and exports their C functions on Linux
and macOS. Driving those directly, instead of the HTTP-shaped server that the wheel's Python class
wraps, is what lets one thread own the batch: a running request's prefix can be given to another one
without computing or copying it, tokens come with their ids, a grammar that does not compile says why,
and no second HTTP server listens on a port.

The price is that structures must match the library's. So the wheel is pinned, and the defaults of both
parameter structures are compared with the known ones before anything else is called: moved fields end
in an `EngineError`, not in a crash. Fields appended in a later release do no harm: the structures have
room at their end, where the library's defaults arrive and are handed back.
"""

from __future__ import annotations

import ctypes as c
import functools
import importlib.metadata
import importlib.util
import logging
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from langchain_sgd.embedded.engine import EngineError

_log: Final = logging.getLogger(__name__)

TESTED_VERSION: Final = "2026.10.11549"
INSTALL_HINT: Final = 'pip install "langchain-sgd[embedded]"'
LIBGOMP_HINT: Final = "apt-get install -y libgomp1"

_LOG_ERROR: Final = 4
_RESERVE: Final = 512


class ModelParams(c.Structure):
    """`llama_model_params`."""

    _fields_: ClassVar = [
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
        ("_reserve", c.c_char * _RESERVE),
    ]
    n_gpu_layers: int
    vocab_only: bool


class ContextParams(c.Structure):
    """`llama_context_params`."""

    _fields_: ClassVar = [
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int),
        ("rope_scaling_type", c.c_int),
        ("pooling_type", c.c_int),
        ("attention_type", c.c_int),
        ("flash_attn_type", c.c_int),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("moe_cache_size", c.c_size_t),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
        ("_reserve", c.c_char * _RESERVE),
    ]
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    n_outputs_max: int
    n_threads: int
    n_threads_batch: int
    offload_kqv: bool
    op_offload: bool
    kv_unified: bool


class Batch(c.Structure):
    """`llama_batch`, whose arrays belong to numpy."""

    _fields_: ClassVar = [
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    ]
    n_tokens: int


class SamplerChainParams(c.Structure):
    """`llama_sampler_chain_params`."""

    _fields_: ClassVar = [("no_perf", c.c_bool)]


class GrammarTokenizerInit(c.Structure):
    """`LlgTokenizerInit`."""

    _fields_: ClassVar = [
        ("vocab_size", c.c_uint32),
        ("tok_eos", c.c_uint32),
        ("token_lens", c.c_void_p),
        ("token_bytes", c.c_char_p),
        ("tokenizer_json", c.c_char_p),
        ("tokenize_assumes_string", c.c_bool),
        ("tokenize_fn", c.c_void_p),
        ("use_approximate_greedy_tokenize_fn", c.c_bool),
        ("tokenize_user_data", c.c_void_p),
        ("slices", c.c_void_p),
    ]


# What a library of the expected layout answers; other values mean that fields have moved.
_MODEL_DEFAULTS: Final = {
    "devices": None,
    "n_gpu_layers": -1,
    "split_mode": 1,
    "main_gpu": 0,
    "tensor_split": None,
    "progress_callback": None,
    "kv_overrides": None,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS: Final = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "yarn_ext_factor": -1.0,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "cb_eval": None,
    "type_k": 1,
    "type_v": 1,
    "moe_cache_size": 0,
    "abort_callback": None,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}

_P: Final = c.c_void_p
_I: Final = c.c_int32
_U: Final = c.c_uint32
_F: Final = c.c_float
_S: Final = c.c_char_p
_B: Final = c.c_bool
_Z: Final = c.c_size_t

# Calls that may take long leave the interpreter to other threads meanwhile ...
_SLOW: Final[dict[str, tuple[Any, list[Any]]]] = {
    "llama_backend_init": (None, []),
    "llama_model_load_from_file": (_P, [_S, ModelParams]),
    "llama_model_free": (None, [_P]),
    "llama_init_from_model": (_P, [_P, ContextParams]),
    "llama_free": (None, [_P]),
    "llama_decode": (_I, [_P, Batch]),
    "llama_tokenize": (_I, [_P, _S, _I, _P, _I, _B, _B]),
    "llg_new_tokenizer": (_P, [c.POINTER(GrammarTokenizerInit), _P, _Z]),
    "llg_new_matcher": (_P, [_P, _S, _S]),
    "llg_matcher_compute_mask_into": (_I, [_P, _P, _Z]),
}
# ... short ones keep it: to get it back from a busy thread can take longer than the call itself.
_FAST: Final[dict[str, tuple[Any, list[Any]]]] = {
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_log_set": (None, [_P, _P]),
    "llama_model_get_vocab": (_P, [_P]),
    "llama_model_n_params": (c.c_uint64, [_P]),
    "llama_model_n_ctx_train": (_I, [_P]),
    "llama_model_has_encoder": (_B, [_P]),
    "llama_model_is_recurrent": (_B, [_P]),
    "llama_model_is_hybrid": (_B, [_P]),
    "llama_model_chat_template": (_S, [_P, _S]),
    "llama_model_meta_val_str": (_I, [_P, _S, _P, _Z]),
    "llama_vocab_n_tokens": (_I, [_P]),
    "llama_vocab_is_eog": (_B, [_P, _I]),
    "llama_vocab_bos": (_I, [_P]),
    "llama_vocab_eos": (_I, [_P]),
    "llama_vocab_eot": (_I, [_P]),
    "llama_vocab_get_add_bos": (_B, [_P]),
    "llama_vocab_get_text": (_S, [_P, _I]),
    "llama_token_to_piece": (_I, [_P, _I, _P, _I, _I, _B]),
    "llama_get_memory": (_P, [_P]),
    "llama_memory_clear": (None, [_P, _B]),
    "llama_memory_seq_rm": (_B, [_P, _I, _I, _I]),
    "llama_memory_seq_cp": (None, [_P, _I, _I, _I, _I]),
    "llama_get_logits": (_P, [_P]),
    "llama_sampler_chain_default_params": (SamplerChainParams, []),
    "llama_sampler_chain_init": (_P, [SamplerChainParams]),
    "llama_sampler_chain_add": (None, [_P, _P]),
    "llama_sampler_free": (None, [_P]),
    "llama_sampler_accept": (None, [_P, _I]),
    "llama_sampler_sample": (_I, [_P, _P, _I]),
    "llama_sampler_init_greedy": (_P, []),
    "llama_sampler_init_dist": (_P, [_U]),
    "llama_sampler_init_top_k": (_P, [_I]),
    "llama_sampler_init_top_p": (_P, [_F, _Z]),
    "llama_sampler_init_typical": (_P, [_F, _Z]),
    "llama_sampler_init_temp": (_P, [_F]),
    "llama_sampler_init_penalties": (_P, [_I, _I, _F, _F, _F]),
    "llg_constraint_init_set_defaults": (None, [_P, _P]),
    "llg_free_tokenizer": (None, [_P]),
    "llg_clone_matcher": (_P, [_P]),
    "llg_free_matcher": (None, [_P]),
    "llg_matcher_get_error": (_S, [_P]),
    "llg_matcher_get_mask_byte_size": (_Z, [_P]),
    "llg_matcher_consume_token": (_I, [_P, _U]),
    "llg_matcher_is_stopped": (_B, [_P]),
    "llg_matcher_compute_ff_tokens": (_I, [_P, _P, _Z]),
}

_LogFunction = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
TokenizeFunction = c.CFUNCTYPE(
    c.c_size_t, c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t
)


class Library:
    """The loaded library; its functions are attributes with the C names."""

    def __init__(self, path: Path) -> None:
        slow, fast = c.CDLL(str(path)), c.PyDLL(str(path))
        self.path = path
        self.errors: deque[str] = deque(maxlen=8)
        """The library's last complaints, oldest first; the newest explains a failed load."""
        for library, table in ((slow, _SLOW), (fast, _FAST)):
            for name, (result, arguments) in table.items():
                function = getattr(library, name)
                function.restype = result
                function.argtypes = arguments
                setattr(self, name, function)
        # The library keeps the pointer, so the object must stay alive with it.
        self._on_log = _LogFunction(self._logged)
        self.llama_log_set(c.cast(self._on_log, c.c_void_p), None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Only for type checkers and misspelt names: the functions are set in the constructor."""
        msg = f"The binding to llama.cpp has no function {name!r}"
        raise AttributeError(msg)

    def _logged(self, level: int, text: bytes | None, _data: int | None) -> None:
        line = (text or b"").decode(errors="replace").strip()
        if not line:
            return
        if level == _LOG_ERROR:
            self.errors.append(line)
        _log.debug("llama.cpp: %s", line)

    def check_layout(self) -> None:
        """Compare the structures' defaults with those this binding was written for.

        Raises:
            EngineError: They differ, so this build of llama.cpp cannot be driven.
        """
        for got, expected in (
            (self.llama_model_default_params(), _MODEL_DEFAULTS),
            (self.llama_context_default_params(), _CONTEXT_DEFAULTS),
        ):
            wrong = [name for name, value in expected.items() if getattr(got, name) != value]
            if wrong:
                msg = (
                    f"xllamacpp {installed_version() or '(unknown version)'} has other structures"
                    f" than {TESTED_VERSION}, which langchain-sgd drives (fields: {', '.join(wrong)});"
                    f" run: pip install xllamacpp=={TESTED_VERSION}"
                )
                raise EngineError(msg)


def installed_version() -> str | None:
    """The installed xllamacpp's version, None where it is absent."""
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        return None


def _library_path() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        msg = f"The embedded engine needs the package xllamacpp, which is not installed: {INSTALL_HINT}"
        raise EngineError(msg)
    if sys.platform == "win32":
        msg = (
            "xllamacpp's Windows wheel does not export llama.cpp's functions; use WSL, or"
            " --small/--large with endpoint URLs"
        )
        raise EngineError(msg)
    folder = Path(spec.origin).parent
    found = sorted(folder.glob("xllamacpp*.so"))
    if not found:
        msg = (
            f"No shared library in {folder}; reinstall it with:"
            f" pip install --force-reinstall xllamacpp=={TESTED_VERSION}"
        )
        raise EngineError(msg)
    return found[0]


@functools.cache
def library() -> Library:
    """Load the library once per process (about 30 ms).

    Raises:
        EngineError: It is absent, cannot be loaded on this system, or has another layout.
    """
    path = _library_path()
    try:
        loaded = Library(path)
    except OSError as error:
        if "libgomp" in str(error):
            msg = f"llama.cpp needs libgomp.so.1, which is not installed; run: {LIBGOMP_HINT}"
        else:
            msg = f"llama.cpp could not be loaded from {path}: {error}"
        raise EngineError(msg) from error
    except AttributeError as error:
        msg = (
            f"xllamacpp {installed_version()} lacks a function of {TESTED_VERSION} ({error});"
            f" run: pip install xllamacpp=={TESTED_VERSION}"
        )
        raise EngineError(msg) from error
    loaded.check_layout()
    loaded.llama_backend_init()
    return loaded
