"""Write a checkpoint as the GGUF file that llama.cpp loads: python -m bench.peer.gguf_file DIR FILE

The same weights for both: expert matrices keep their MXFP4 values to the bit, the other matrices become Q8_0 (blocks of
32 along the input, a float16 scale each), the router, norms, biases and sinks float32. One tensor is in memory at a
time; 20b takes 12.1 GB of disk. The file has no vocabulary, only its size: llama.cpp then takes and gives token ids.

llama.cpp has no key for YaRN's `truncate`: it rounds the limits of the ramp, which gpt-oss does not.
"""

import argparse
import errno
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ossature.checkpoint import Checkpoint, MappedTensor, open_checkpoint
from ossature.config import FULL, SLIDING, ModelConfig
from ossature.errors import CheckpointError

__all__ = ["PeerTensor", "peer_tensors", "relay", "write_gguf"]

ARCHITECTURE = "gpt-oss"
SWIGLU = (1.702, 7.0)  # alpha and limit, fixed in llama.cpp
_PIECE = 1 << 22  # values quantised at once

# Hugging Face name within a layer -> GGUF name within a block
_MATRICES = {
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
}
_FLOATS = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.bias": "attn_output.bias",
    "self_attn.sinks": "attn_sinks.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "mlp.router.weight": "ffn_gate_inp.weight",
    "mlp.router.bias": "ffn_gate_inp.bias",
}
# name -> source, its first row and the step from row to row: gate and up take turns in gate_up_proj
_EXPERTS = {
    "ffn_gate_exps": ("mlp.experts.gate_up_proj", 0, 2),
    "ffn_up_exps": ("mlp.experts.gate_up_proj", 1, 2),
    "ffn_down_exps": ("mlp.experts.down_proj", 0, 1),
}


@dataclass(frozen=True, slots=True)
class PeerTensor:
    """One tensor of the GGUF file.

    source       canonical name; of an expert matrix without `_blocks` and `_scales`
    shape        rows first, as numpy has it; GGUF's own order is the reverse
    first, step  of experts, the rows of the source that it holds
    """

    name: str
    type: Type
    source: str
    shape: tuple[int, ...]
    first: int = 0
    step: int = 1

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """The shape of its bytes, or of its values where they are float32."""
        if self.type is Type.F32:
            return self.shape
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return (*self.shape[:-1], self.shape[-1] // block * size)

    @property
    def bytes(self) -> int:
        return math.prod(self.byte_shape) * (4 if self.type is Type.F32 else 1)


def peer_tensors(checkpoint: Checkpoint) -> list[PeerTensor]:
    """Every tensor of the file, in its order. Raises CheckpointError for a model that llama.cpp cannot hold."""
    config = checkpoint.config
    _check(checkpoint)
    matrix, norm = (config.vocab_size, config.hidden_size), (config.hidden_size,)
    return [
        PeerTensor("token_embd.weight", Type.Q8_0, "model.embed_tokens.weight", matrix),
        *(tensor for layer in range(config.num_hidden_layers) for tensor in _layer(checkpoint, layer)),
        PeerTensor("output_norm.weight", Type.F32, "model.norm.weight", norm),
        PeerTensor("output.weight", Type.Q8_0, "lm_head.weight", matrix),
    ]


def _layer(checkpoint: Checkpoint, layer: int) -> Iterator[PeerTensor]:
    ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
    for names, kind in ((_MATRICES, Type.Q8_0), (_FLOATS, Type.F32)):
        for source, name in names.items():
            shape = checkpoint.sources[f"{ours}.{source}"].shape
            yield PeerTensor(f"{theirs}.{name}", kind, f"{ours}.{source}", shape)
    for name, (source, first, step) in _EXPERTS.items():
        experts, rows, groups = checkpoint.sources[f"{ours}.{source}_scales"].shape
        shape = (experts, rows // step, 32 * groups)
        yield PeerTensor(f"{theirs}.{name}.weight", Type.MXFP4, f"{ours}.{source}", shape, first, step)
        yield PeerTensor(f"{theirs}.{name}.bias", Type.F32, f"{ours}.{source}_bias", shape[:2], first, step)


def _check(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    faults = {
        "unquantised experts; MXFP4 ones are expected": config.quantization != "mxfp4",
        f"swiglu_alpha and swiglu_limit that are not {SWIGLU}": (config.swiglu_alpha, config.swiglu_limit) != SWIGLU,
        "layer_types that do not begin with a window and take turns": config.layer_types
        != tuple((SLIDING, FULL)[layer % 2] for layer in range(config.num_hidden_layers)),
        "matrices whose rows are no multiple of 32 (one Q8_0 block)": config.hidden_size % 32 != 0
        or config.num_attention_heads * config.head_dim % 32 != 0,
    }
    if found := [fault for fault, there in faults.items() if there]:
        raise CheckpointError(f"{checkpoint.directory}: llama.cpp's {ARCHITECTURE} cannot hold {'; '.join(found)}.")


def write_gguf(checkpoint: Checkpoint, path: Path) -> int:
    """Write the checkpoint's tensors as `path`, which must not exist; returns its bytes.

    The file is written and synced under a temporary name beside `path`, which then gets its name. Raises
    CheckpointError.
    """
    tensors = peer_tensors(checkpoint)
    target = path.absolute()
    if target.exists():
        raise CheckpointError(f"{target}: exists; choose a new name or remove it first.")
    needed = sum(tensor.bytes for tensor in tensors)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(target.parent).free) < needed:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")
        try:
            _write(scratch, checkpoint, tensors)
            scratch.rename(target)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{target}: writing {needed:,} bytes failed ({error.strerror}); nothing was left there."
        ) from error
    return target.stat().st_size


def _write(path: Path, checkpoint: Checkpoint, tensors: list[PeerTensor]) -> None:
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    _add_config(writer, checkpoint.config)
    for tensor in tensors:
        dtype = np.dtype(np.float32 if tensor.type is Type.F32 else np.uint8)
        writer.add_tensor_info(tensor.name, tensor.byte_shape, dtype, tensor.bytes, tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_stored(checkpoint, tensor))
        for file in writer.fout or ():
            file.flush()
            os.fsync(file.fileno())
    finally:
        writer.close()


def _add_config(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_expert_feed_forward_length(config.intermediate_size)
    writer.add_expert_count(config.num_local_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    if (yarn := config.rope_scaling) is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(yarn.factor)
        writer.add_rope_scaling_orig_ctx_len(yarn.original_max_position_embeddings)
        writer.add_rope_scaling_yarn_beta_fast(yarn.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(yarn.beta_slow)


def _stored(checkpoint: Checkpoint, tensor: PeerTensor) -> NDArray[np.generic]:
    """Its bytes, or its values where they are float32."""
    if tensor.type is Type.MXFP4:
        blocks, scales = (checkpoint.tensor(f"{tensor.source}_{part}").array for part in ("blocks", "scales"))
        return relay(blocks[:, tensor.first :: tensor.step], scales[:, tensor.first :: tensor.step])
    source = checkpoint.tensor(tensor.source)
    if tensor.type is Type.F32:
        values = _float32(source.array, source.dtype)
        return np.ascontiguousarray(values[..., tensor.first :: tensor.step])
    return _q8_0(source)


def relay(blocks: NDArray[np.generic], scales: NDArray[np.generic]) -> NDArray[np.uint8]:
    """MXFP4 blocks as ggml lays them: the scale byte, then 16 bytes of which byte j holds elements j and j + 16.

    blocks  (..., groups, 16)   uint8, byte b holds elements 2b and 2b + 1
    scales  (..., groups)       uint8

    Returns (..., 17 * groups) uint8.
    """
    low, high = blocks[..., :8].view(np.uint8), blocks[..., 8:].view(np.uint8)  # elements 0 to 15, 16 to 31
    out = np.empty((*scales.shape, 17), np.uint8)
    out[..., 0] = scales
    out[..., 1::2] = low & 0x0F | high << 4
    out[..., 2::2] = low >> 4 | high & 0xF0
    return out.reshape(*scales.shape[:-1], 17 * scales.shape[-1])


def _q8_0(source: MappedTensor) -> NDArray[np.uint8]:
    """As llama.cpp's own tools round it, some rows at a time."""
    rows, columns = source.shape
    out = np.empty((rows, columns // 32 * 34), np.uint8)
    step = max(1, _PIECE // columns)
    for start in range(0, rows, step):
        values = _float32(source.array[start : start + step], source.dtype)
        out[start : start + step] = gguf.quants.quantize(values, Type.Q8_0)
    return out


def _float32(array: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def main() -> None:
    """Read the options, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="a checkpoint in either published layout")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    options = parser.parse_args()
    started = time.perf_counter()
    size = write_gguf(open_checkpoint(options.directory), options.file)
    print(f"{options.file}: {size:,} bytes, written in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
