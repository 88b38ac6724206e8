"""Writes and parses the short stories that the demo model learns to tell.

The grammar is data (story_grammar.py); this file is its engine, and knows nothing about stories:
`generate` picks productions and binds slots at random, `parse` searches for a derivation of a text
under which every slot keeps one meaning. Standard library only; everything here is pure.
"""

import argparse
import json
import math
import random
import re
from dataclasses import dataclass

from story_grammar import LEXICONS, RULES

# How many of the possible continuations a failure names.
MAX_EXPECTED = 6

_TOKEN = re.compile(r"<(?P<rule>\w+)>|\{(?P<slot>\w+)\.(?P<form>\w+)\}")


@dataclass(frozen=True)
class Literal:
    """Text that stands as it is."""

    text: str


@dataclass(frozen=True)
class Reference:
    """Another nonterminal."""

    rule: str


@dataclass(frozen=True)
class Mention:
    """One form (such as `name` or `they`) of what a slot is bound to."""

    slot: str
    form: str


@dataclass(frozen=True)
class Derivation:
    """How a text follows from the grammar.

    bindings: slot -> index into LEXICONS[slot].
    productions: (nonterminal, index into RULES[nonterminal]) from left to right, outermost first.
    """

    bindings: dict
    productions: tuple

    def word(self, slot, form):
        """The word for `slot`, or None if the text leaves it open: word("hero", "name")."""
        if slot not in self.bindings:
            return None
        return LEXICONS[slot][self.bindings[slot]][form]


@dataclass(frozen=True)
class ParseFailure:
    """Why a text is no story: how far some derivation came, and what could have followed there.

    False in a condition, so that `if parse(text)` reads well.
    """

    position: int
    expected: tuple
    found: str

    def __bool__(self):
        return False

    def __str__(self):
        wanted = " or ".join(map(repr, self.expected[:MAX_EXPECTED])) or "the end"
        if len(self.expected) > MAX_EXPECTED:
            wanted += f" or one of {len(self.expected) - MAX_EXPECTED} more"
        return f"at character {self.position}: found {self.found!r}, expected {wanted}"


def _compile_production(text):
    """Splits a production into its symbols."""
    symbols, end = [], 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            symbols.append(Literal(text[end : match.start()]))
        if match["rule"]:
            symbols.append(Reference(match["rule"]))
        else:
            symbols.append(Mention(match["slot"], match["form"]))
        end = match.end()
    if end < len(text):
        symbols.append(Literal(text[end:]))
    return tuple(symbols)


_COMPILED = {name: tuple(map(_compile_production, texts)) for name, texts in RULES.items()}


# ---------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Written:
    """A text and what is known about it from having written it.

    bindings: slot -> index into LEXICONS[slot], as in Derivation.
    nats: information of the choices made, an upper bound of the text's own; it tells how low a
        language model's loss can get.
    echoes: (start, end) characters of every mention of a slot that was bound before: the places
        where agreement, and not chance, decides.
    """

    text: str
    bindings: dict
    nats: float
    echoes: tuple


class _Writer:
    """One text in the making."""

    def __init__(self, rng, bindings):
        self.rng = rng
        self.bindings = dict(bindings)
        self.nats = 0.0
        self.text = ""
        self.echoes = []

    def choose(self, options):
        self.nats += math.log(len(options))
        return self.rng.choice(options)

    def expand(self, rule):
        for symbol in self.choose(_COMPILED[rule]):
            if isinstance(symbol, Literal):
                self.text += symbol.text
            elif isinstance(symbol, Reference):
                self.expand(symbol.rule)
            else:
                self.mention(symbol)

    def mention(self, symbol):
        start = len(self.text)
        bound_before = symbol.slot in self.bindings
        if not bound_before:
            self.bindings[symbol.slot] = self.choose(range(len(LEXICONS[symbol.slot])))
        self.text += LEXICONS[symbol.slot][self.bindings[symbol.slot]][symbol.form]
        if bound_before:
            self.echoes.append((start, len(self.text)))


def generate(rng, rule="story", bindings=None):
    """Writes one text from `rule`, keeping `bindings` (as in Derivation) where given."""
    writer = _Writer(rng, bindings or {})
    writer.expand(rule)
    return Written(writer.text, writer.bindings, writer.nats, tuple(writer.echoes))


# ---------------------------------------------------------------------------------------- parsing


class _Parser:
    """Backtracking search over derivations; remembers the furthest failure for the message."""

    def __init__(self, text):
        self.text = text
        self.furthest = 0
        self.expected = set()

    def fail(self, position, wanted):
        """Notes that `wanted` does not stand at `position`."""
        if position > self.furthest:
            self.furthest, self.expected = position, set()
        if position == self.furthest:
            self.expected.add(wanted)

    def fail_literal(self, position, wanted):
        """As `fail`, but counts as passed the part of `wanted` that does stand there."""
        agreeing = 0
        rest = self.text[position : position + len(wanted)]
        while agreeing < len(rest) and rest[agreeing] == wanted[agreeing]:
            agreeing += 1
        self.fail(position + agreeing, wanted[agreeing:])

    def match(self, symbols, position, bindings):
        """Yields (end, bindings, productions) for every way in which `symbols` stand here."""
        if not symbols:
            yield position, bindings, ()
            return
        for middle, bound, used in self.match_one(symbols[0], position, bindings):
            for end, final, more in self.match(symbols[1:], middle, bound):
                yield end, final, used + more

    def match_one(self, symbol, position, bindings):
        if isinstance(symbol, Literal):
            if self.text.startswith(symbol.text, position):
                yield position + len(symbol.text), bindings, ()
            else:
                self.fail_literal(position, symbol.text)
        elif isinstance(symbol, Reference):
            for index, production in enumerate(_COMPILED[symbol.rule]):
                for end, bound, used in self.match(production, position, bindings):
                    yield end, bound, ((symbol.rule, index),) + used
        else:
            yield from self.match_mention(symbol, position, bindings)

    def match_mention(self, symbol, position, bindings):
        lexicon = LEXICONS[symbol.slot]
        bound = bindings.get(symbol.slot)
        for index in range(len(lexicon)) if bound is None else [bound]:
            word = lexicon[index][symbol.form]
            if self.text.startswith(word, position):
                yield position + len(word), {**bindings, symbol.slot: index}, ()
            else:
                self.fail(position, word)


def parse(text, rule="story", bindings=None):
    """Finds the derivation of the whole of `text` from `rule` under `bindings`.

    Returns a Derivation, or a ParseFailure (which is false) that says where it broke off. White
    space around the text is ignored.
    """
    text = text.strip()
    parser = _Parser(text)
    for end, bound, productions in parser.match((Reference(rule),), 0, bindings or {}):
        if end == len(text):
            return Derivation(bound, productions)
        parser.fail(end, "")
    found = text[parser.furthest : parser.furthest + 30]
    return ParseFailure(parser.furthest, tuple(sorted(filter(None, parser.expected))), found)


def parse_reply(request, story):
    """Parses a story that answers `request`: the animals and names asked for must be in it."""
    asked = parse(request, "request")
    return parse(story, "story", asked.bindings) if asked else asked


def main():
    """Prints stories, one JSON string per line, as check_stories.py reads them."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--count", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    rng = random.Random(options.seed)
    for _ in range(options.count):
        print(json.dumps(generate(rng).text))


if __name__ == "__main__":
    main()
