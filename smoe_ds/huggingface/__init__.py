"""Models of Hugging Face's transformers, ``m2m_100`` (M2M100, NLLB-200) and ``nllb-moe``: taken over, and given back.

The library itself is not needed: a folder of theirs is JSON, safetensors and a SentencePiece model.
"""
