"""A sentence encoder in the place of the hashed text embedder: `pip install lemo[text]` and a model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ray_app.errors import InvalidSettings
from ray_app.types import Matrix


class SentenceEmbedder:
    """`path`: a folder that sentence-transformers can read; it must lie on every node that serves."""

    def __init__(self, path: Path) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise InvalidSettings(f"the encoder {path} needs sentence-transformers: pip install 'lemo[text]'") from None
        self._model = SentenceTransformer(str(path), device="cpu")
        self.size = int(self._model.get_sentence_embedding_dimension())
        self.version = f"sentence-{path.name}"

    def embed(self, texts: Sequence[str]) -> Matrix:
        return np.asarray(self._model.encode(list(texts), normalize_embeddings=True), np.float32)
