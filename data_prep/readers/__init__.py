"""Readers of parallel text, a file for each kind of source.

To add one: write its file with a `Source`, which has its keys and reads its files; register it in `KINDS`; test it in
``tests/data_prep/readers``, and show it in ``data_prep/example.yaml``.

Shape letters of this package: ``N`` sentence pairs, ``M`` some of them.
"""

from __future__ import annotations

from data_prep.readers import jsonl, mediawiki, mo, po, text_pair, tmx, tsv
from data_prep.readers.source import Source

KINDS: dict[str, type[Source]] = {
    "text": text_pair.TextPairSource,
    "tsv": tsv.TsvSource,
    "tmx": tmx.TmxSource,
    "jsonl": jsonl.JsonLinesSource,
    "mo": mo.MoSource,
    "po": po.PoSource,
    "mediawiki": mediawiki.MediaWikiSource,
}
"""All kinds of sources, by name, in the order in which they are told."""
