"""Training text for the demo model: documents as token ids, and windows of them.

A document is a plain story, a chat that asks for stories, or (to begin with) the plot of a story
alone. Every token comes with two flags: whether agreement decides it (Written.echoes), and whether
the model is to learn it: what users and systems say it only reads.
"""

import random

import torch

from demo_model import ASSISTANT, BOS, EOS, SPECIAL_TOKENS, SYSTEM, TURN_END, USER
from stories import generate

CHAT_SHARE = 0.3
SYSTEM_SHARE = 0.3
SECOND_TURN_SHARE = 0.3


class Document:
    """Token ids in the making, and for each whether it is an echo and whether it is to be learned."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.ids = []
        self.echoes = []
        self.learned = []

    def add_special(self, token, learn=True):
        self.ids.append(SPECIAL_TOKENS.index(token))
        self.echoes.append(False)
        self.learned.append(learn)

    def add_text(self, written, learn=True):
        """Appends a stories.Written."""
        encoding = self.tokenizer.encode(written.text, add_special_tokens=False)
        self.ids += encoding.ids
        self.echoes += [
            any(start < echo_end and end > echo_start for echo_start, echo_end in written.echoes)
            for start, end in encoding.offsets
        ]
        self.learned += [learn] * len(encoding.ids)

    def add_prompt(self, role, written):
        """Appends a turn that is not the model's."""
        self.add_special(role, learn=False)
        self.add_text(written, learn=False)
        self.add_special(TURN_END, learn=False)


def write_text(tokenizer, rng, rule):
    """BOS, a text from `rule` of the grammar, EOS."""
    document = Document(tokenizer)
    document.add_special(BOS)
    document.add_text(generate(rng, rule))
    document.add_special(EOS)
    return document


def write_chat(tokenizer, rng):
    """One or two turns of a user's request and the story that answers it."""
    document = Document(tokenizer)
    document.add_special(BOS)
    if rng.random() < SYSTEM_SHARE:
        document.add_prompt(SYSTEM, generate(rng, "instruction"))
    for _ in range(2 if rng.random() < SECOND_TURN_SHARE else 1):
        request = generate(rng, "request")
        document.add_prompt(USER, request)
        document.add_special(ASSISTANT, learn=False)
        document.add_text(generate(rng, "story", request.bindings))
        document.add_special(TURN_END)
    return document


class Corpus:
    """An endless stream of windows; each starts with a document's BOS and is cut at its length."""

    def __init__(self, tokenizer, seed):
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)

    def _document(self, plots_only):
        if plots_only:
            return write_text(self.tokenizer, self.rng, "plot")
        if self.rng.random() < CHAT_SHARE:
            return write_chat(self.tokenizer, self.rng)
        return write_text(self.tokenizer, self.rng, "story")

    def _window(self, length, plots_only):
        ids, echoes, learned = [], [], []
        while len(ids) < length:
            document = self._document(plots_only)
            ids += document.ids
            echoes += document.echoes
            learned += document.learned
        return ids[:length], echoes[:length], learned[:length]

    def batch(self, size, length, plots_only=False):
        """(int64 token ids, bool echo flags, bool flags of what is learned), all [size, length]."""
        windows = [self._window(length, plots_only) for _ in range(size)]
        return tuple(torch.tensor(rows) for rows in zip(*windows))
