"""Random small models of transformers, saved by transformers itself, with a tokenizer trained on made-up text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from tests.helpers.prepared import sentence, translate

CODES = ("cat_Latn", "eng_Latn", "nso_Latn", "rus_Cyrl", "zho_Hans", "zho_Hant")
SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2}


@lru_cache(maxsize=1)
def sentencepiece_bytes() -> bytes:
    """A small BPE model as fairseq's are: unknown 0, begin 1, end 2, no padding."""
    import io

    import sentencepiece

    lines = [sentence(number) for number in range(400)]
    lines += [translate(line, language) for language in ("nso", "cat", "rus") for line in lines[:400]]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=320, minloglevel=2
    )
    return model.getvalue()


def tokenizer_of(folder: Path, codes: Sequence[str] = CODES) -> Any:
    """NLLB's tokenizer with some languages, written into the folder."""
    from transformers import NllbTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes())
    tokenizer = NllbTokenizer(str(folder / "sentencepiece.bpe.model"), additional_special_tokens=list(codes))
    tokenizer.save_pretrained(folder)
    return tokenizer


def model_of(kind: str, vocab_size: int, *, seed: int = 0, noise: float = 0.15, **config: Any) -> Any:
    """A model in evaluation mode with weights large enough that outputs are far from uniform."""
    import transformers

    torch.manual_seed(seed)
    if kind == "m2m_100":
        settings = transformers.M2M100Config(vocab_size=vocab_size, **(SIZES | config))
        model = transformers.M2M100ForConditionalGeneration(settings)
    else:
        settings = transformers.NllbMoeConfig(vocab_size=vocab_size, **(SIZES | EXPERTS | config))
        model = transformers.NllbMoeForConditionalGeneration(settings)
    shake(model, noise)
    return model.eval()


def shake(model: Any, noise: float) -> None:
    """Adds noise to all weights but the row of padding, more where the decoder looks at the source."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            to_source = "encoder_attn" in name or "cross_attention" in name
            parameter += noise * (3 if to_source else 1) * torch.randn(parameter.shape)
        model.model.shared.weight[1] = 0


def saved_folder(
    folder: Path, kind: str, *, rows: int = 3, ending: float = 0.0, codes: Sequence[str] = CODES, **config: Any
) -> Path:
    """A whole folder: model, tokenizer; the embedding has some rows more than the tokenizer tokens.

    Args:
        folder: where to.
        kind: ``m2m_100`` or ``nllb-moe``.
        rows: of the embedding without a token.
        codes: of the tokenizer's languages.
        ending: what the logit of the end of sentence gains at every position.
        config: settings of the model; ``max_shard_size`` and ``safe_serialization`` of saving.
    """
    tokenizer = tokenizer_of(folder, codes)
    options = {key: config.pop(key) for key in ("max_shard_size", "safe_serialization") if key in config}
    model = model_of(kind, len(tokenizer) + rows, **config)
    with torch.no_grad():
        end = model.model.shared.weight[2]
        model.model.decoder.layer_norm.bias += ending * end / end.square().sum()
    model.save_pretrained(folder, **options)
    return folder


def m2m100_folder(folder: Path) -> Path:
    """A small M2M100 with a tokenizer of its own: a file numbers its pieces, and a hundred languages follow them."""
    import sentencepiece
    from transformers import M2M100Tokenizer

    folder.mkdir(parents=True)
    model = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bytes())
    pieces = [model.IdToPiece(number) for number in range(3, model.get_piece_size())]
    numbers = {token: row for row, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
    vocab, spm = folder / "vocab.json", folder / "sentencepiece.bpe.model"
    vocab.write_text(json.dumps(numbers), encoding="utf-8")
    spm.write_bytes(sentencepiece_bytes())
    M2M100Tokenizer(str(vocab), str(spm)).save_pretrained(folder)
    model_of("m2m_100", len(numbers) + 108).save_pretrained(folder)
    return folder
