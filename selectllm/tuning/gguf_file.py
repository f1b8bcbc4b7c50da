"""Writes a tuned model as a GGUF file: the base file's metadata and tokenizer, and the new tensors in F16.

llama.cpp's own converter is not needed: what it would derive from a folder of transformers stands in the base file.
Source of the order of q and k: LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py. Norms stay F32, as there.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import RunError, StoreError
from selectllm.store.files import remove_stale_temp_files, sync_folder, temporary_pattern

Tensor = npt.NDArray[Any]

_OWN: Final = ("general.architecture", "general.file_type", "general.quantization_version")
"""What the new file says itself."""


def write_gguf(base: Path, model: Any, path: Path) -> None:
    """Write the weights of a merged model of transformers that was loaded from the GGUF file `base`.

    Raises RunError where the two do not fit together or a weight does not fit F16, StoreError when writing fails.
    """
    import gguf

    reader = gguf.GGUFReader(base)
    tensors = _tensors(model)
    remove_stale_temp_files(path.parent.glob(temporary_pattern(path.name)))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        writer = gguf.GGUFWriter(temporary, reader.fields["general.architecture"].contents())
        _copy_metadata(reader, writer)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, _new_tensor(tensor, tensors, base))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy_metadata(reader: Any, writer: Any) -> None:
    import gguf

    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in _OWN:
            continue
        kinds = field.types
        is_array = kinds[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, field.contents(), kinds[0], sub_type=kinds[-1] if is_array else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _tensors(model: Any) -> Mapping[str, Tensor]:
    """The model's weights by their names in GGUF files."""
    import gguf

    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    found = {}
    for own, value in model.state_dict().items():
        name = names.get_name(own, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise RunError(f"the weights {own} have no name in GGUF files, so the tuned model cannot be exported")
        tensor = value.detach().float().numpy()
        if ".attn_q." in name:
            tensor = _permuted(tensor, config.num_attention_heads)
        elif ".attn_k." in name:
            tensor = _permuted(tensor, config.num_key_value_heads)
        found[name] = tensor
    return found


def _permuted(tensor: Tensor, heads: int) -> Tensor:
    """Rows of a head from two halves, as transformers has them, to neighbours, as llama.cpp does."""
    return (
        tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
    )


def _new_tensor(tensor: Any, tensors: Mapping[str, Tensor], base: Path) -> Tensor:
    if tensor.name == "rope_freqs.weight":  # a constant, which transformers computes by itself
        return np.asarray(tensor.data)
    new = tensors.get(tensor.name)
    if new is None or list(new.shape) != [int(size) for size in reversed(tensor.shape)]:
        raise RunError(f"the tuned model has no weights for {tensor.name} of {base}, so it cannot be exported")
    if new.ndim < 2:
        return new.astype(np.float32)
    if np.abs(new).max() > np.finfo(np.float16).max:
        raise RunError(f"the tuned weights {tensor.name} do not fit F16. Lower --learning-rate, and name a new --out")
    return new.astype(np.float16)
