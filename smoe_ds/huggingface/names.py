"""What our parameters are called in a model of transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smoe_ds.huggingface.folder import M2M_100, NLLB_MOE

EMBEDDING = "embedding.weight"
SHARED = "model.shared.weight"
TIED = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
"""Further names of the shared embedding, which a file may hold too."""

_TABLES = re.compile(r"model\.(?:encoder|decoder)\.embed_positions\.\w+|final_logits_bias")
"""What older files hold beside parameters: tables that are computed, and a bias that is zero."""

_LAYER = re.compile(r"((?:encoder|decoder)\.layers\.\d+)\.(.+)")
_NORM = re.compile(r"(encoder|decoder)\.norm\.(weight|bias)")
_EXPERT = re.compile(r"ffn\.experts\.(\d+)\.([wb])([12])")
_DENSE = re.compile(r"ffn\.ffn\.([wb])([12])")
_KINDS = {"w": "weight", "b": "bias"}


@dataclass(frozen=True)
class Names:
    """The names of a kind of models.

    Attributes:
        cross: attention to the source.
        cross_norm: the norm before it.
        ffn_norm: the norm before the feed-forward network.
        ffn: what stands before the matrices of a dense network.
    """

    cross: str
    cross_norm: str
    ffn_norm: str
    ffn: str

    def of(self, name: str) -> tuple[str, ...]:
        """Their names of a parameter of ours; several are its parts one below the other.

        Args:
            name: logical name in a dense model or a vanilla mixture of experts.

        Raises:
            KeyError: they have none like it.
        """
        if name == EMBEDDING:
            return (SHARED,)
        if match := _NORM.fullmatch(name):
            return (f"model.{match[1]}.layer_norm.{match[2]}",)
        if match := _LAYER.fullmatch(name):
            return tuple(f"model.{match[1]}.{inner}" for inner in self._inner(match[2]))
        raise KeyError(name)

    def _inner(self, inner: str) -> tuple[str, ...]:
        if match := _EXPERT.fullmatch(inner):
            return (f"ffn.experts.expert_{match[1]}.fc{match[3]}.{_KINDS[match[2]]}",)
        if match := _DENSE.fullmatch(inner):
            return (f"{self.ffn}fc{match[2]}.{_KINDS[match[1]]}",)
        if inner == "ffn.gates.0":
            return ("ffn.router.classifier.weight",)
        module, kind = inner.rsplit(".", 1)
        modules: dict[str, tuple[str, ...]] = {
            "self_norm": ("self_attn_layer_norm",),
            "cross_norm": (self.cross_norm,),
            "ffn.norm": (self.ffn_norm,),
            "ffn.norms.0": (self.ffn_norm,),
        }
        for ours, theirs in (("self_attention", "self_attn"), ("cross_attention", self.cross)):
            modules[f"{ours}.query"] = (f"{theirs}.q_proj",)
            modules[f"{ours}.key_value"] = (f"{theirs}.k_proj", f"{theirs}.v_proj")
            modules[f"{ours}.out"] = (f"{theirs}.out_proj",)
        return tuple(f"{one}.{kind}" for one in modules[module])


NAMES = {
    M2M_100: Names("encoder_attn", "encoder_attn_layer_norm", "final_layer_norm", ""),
    NLLB_MOE: Names("cross_attention", "cross_attention_layer_norm", "ff_layer_norm", "ffn."),
}
"""By ``model_type``."""


def is_parameter(name: str) -> bool:
    """Whether a tensor of theirs is a parameter of its own."""
    return name not in TIED and not _TABLES.fullmatch(name)
