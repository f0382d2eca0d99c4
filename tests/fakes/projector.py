"""The file of a projector for the embedded model: as small as llama.cpp takes one, and taught nothing.

With it the model is given every picture as four tokens of noise: what is asked, answered and counted is all real, but
for what is seen. GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the names are those of
ggml-org/llama.cpp, tools/mtmd/clip-impl.h.
"""

import struct
from array import array
from itertools import accumulate
from math import prod
from pathlib import Path

#: What the model's embeddings have, and what the projector has inside.
_MODEL, _INNER, _HIDDEN = 576, 64, 128
_IMAGE, _PATCH, _BLOCKS = 28, 14, 2
#: Tokens that a picture takes.
PICTURE_TOKENS = (_IMAGE // _PATCH) ** 2
_ALIGNMENT = 32
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9


def write_projector(path: Path) -> Path:
    """Write it there."""
    facts = [
        _text("general.architecture", "clip"),
        _fact("clip.has_vision_encoder", _BOOL, struct.pack("<?", True)),
        _fact("clip.use_gelu", _BOOL, struct.pack("<?", True)),
        _text("clip.projector_type", "mlp"),
        _fact("clip.vision.attention.layer_norm_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
        *(
            _fact(f"clip.vision.{name}", _UINT32, struct.pack("<I", value))
            for name, value in {
                "image_size": _IMAGE,
                "patch_size": _PATCH,
                "embedding_length": _INNER,
                "feed_forward_length": _HIDDEN,
                "block_count": _BLOCKS,
                "attention.head_count": 2,
                "projection_dim": _MODEL,
            }.items()
        ),
        *(
            _fact(f"clip.vision.{name}", _ARRAY, struct.pack("<IQ3f", _FLOAT32, 3, 0.5, 0.5, 0.5))
            for name in ("image_mean", "image_std")
        ),
    ]
    tensors = _tensors()
    places = accumulate((_padded(4 * prod(shape)) for shape in tensors.values()), initial=0)
    described = [
        _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, place)
        for (name, shape), place in zip(tensors.items(), places, strict=False)
    ]
    head = b"".join((b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(facts)), *facts, *described))
    values = (_values(name, prod(shape)) for name, shape in tensors.items())
    path.write_bytes(b"".join((head.ljust(_padded(len(head)), b"\0"), *values)))
    return path


def _tensors() -> dict[str, tuple[int, ...]]:
    """By name, how many values in each dimension, the innermost first."""
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (_PATCH, _PATCH, 3, _INNER),
        "v.position_embd.weight": (_INNER, PICTURE_TOKENS),
        "mm.0.weight": (_INNER, _MODEL),
        "mm.2.weight": (_MODEL, _MODEL),
        "mm.0.bias": (_MODEL,),
        "mm.2.bias": (_MODEL,),
    }
    norms = ["v.pre_ln", "v.post_ln"]
    for block in (f"v.blk.{number}" for number in range(_BLOCKS)):
        norms += [f"{block}.ln1", f"{block}.ln2"]
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= {f"{block}.{name}.weight": (_INNER, _INNER), f"{block}.{name}.bias": (_INNER,)}
        shapes |= {f"{block}.ffn_up.weight": (_INNER, _HIDDEN), f"{block}.ffn_up.bias": (_HIDDEN,)}
        shapes |= {f"{block}.ffn_down.weight": (_HIDDEN, _INNER), f"{block}.ffn_down.bias": (_INNER,)}
    return shapes | {f"{name}.{kind}": (_INNER,) for name in norms for kind in ("weight", "bias")}


def _values(name: str, count: int) -> bytes:
    few = [0.0] if name.endswith("bias") else [1.0] if "ln" in name else [0.02, -0.01, 0.015, -0.02, 0.005]
    values = (array("f", few) * (count // len(few) + 1))[:count].tobytes()
    return values.ljust(_padded(len(values)), b"\0")


def _fact(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _text(name: str, value: str) -> bytes:
    return _fact(name, _STRING, _string(value))


def _string(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
