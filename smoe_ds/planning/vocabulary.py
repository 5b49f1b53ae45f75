"""The vocabulary size that a plan assumes: a run can be planned before its corpus is prepared."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.config.run import RunConfig
from smoe_ds.data.manifest import TOKENIZER
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.planning.paper_tables import VOCAB_SIZE


def planned_vocab_size(config: RunConfig) -> tuple[int, str]:
    """The vocabulary size of the corpus, else what the run says of it, else the paper's; and where it is from."""
    data = config.smoe.data
    file = Path(data.path) / TOKENIZER
    if file.is_file():
        return Tokenizer(file).vocab_size, f"from {file}"
    if data.vocab_size is not None:
        return data.vocab_size, f"smoe.data.vocab_size; {data.path} is not prepared"
    return VOCAB_SIZE, f"assumed: {data.path} is not prepared; --vocab-size or smoe.data.vocab_size says otherwise"
