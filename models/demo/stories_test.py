"""Claims about the story grammar: it parses what it writes, and refuses broken agreement."""

import random
import re
import unittest

from stories import generate, parse, parse_reply
from story_grammar import LEXICONS, RULES

STORY = (
    "Once upon a time, there was a shy fox named Mia. She lived near the sea. Every evening, she "
    "liked to watch the boats. Her best friend was Otto, a goat. One day, Mia could not find her "
    'red kite. She began to cry. "I will help you," said Otto. At last, Otto found the red kite '
    "under the bridge. Mia smiled at Otto. Mia was glad to hold her kite again. Mia went back to "
    "the sea and slept well."
)


class StoriesTest(unittest.TestCase):

    def test_every_generated_story_parses_to_the_bindings_it_was_written_with(self):
        rng = random.Random(7)
        for _ in range(500):
            written = generate(rng)
            derivation = parse(written.text)
            self.assertTrue(derivation, f"{written.text}\n{derivation}")
            self.assertEqual(derivation.bindings, written.bindings, written.text)

    def test_every_production_is_used(self):
        rng = random.Random(8)
        used = set()
        for _ in range(2000):
            used |= set(parse(generate(rng).text).productions)
        story_rules = set(RULES) - {"request", "ask", "about", "instruction"}
        self.assertEqual(
            used, {(name, i) for name in story_rules for i in range(len(RULES[name]))}
        )

    def test_every_slot_and_form_in_a_production_exists(self):
        for texts in RULES.values():
            for slot, form in re.findall(r"\{(\w+)\.(\w+)\}", " ".join(texts)):
                for entry in LEXICONS[slot]:
                    self.assertIn(form, entry)

    def test_the_derivation_says_what_the_story_is_about(self):
        derivation = parse(STORY)
        self.assertEqual(derivation.word("hero", "name"), "Mia")
        self.assertEqual(derivation.word("friend_kind", "noun"), "goat")
        self.assertIsNone(derivation.word("food", "some"))

    def test_agreement_broken_anywhere_is_refused_with_the_place(self):
        breaks = [
            ("She lived", "He lived", "'She'"),
            ("her red kite", "his red kite", "'her'"),
            ("hold her kite", "hold her ball", "'kite'"),
            ("found the red", "found the blue", "'red'"),
            ("back to the sea", "back to the forest", "'the sea'"),
            ("Otto, a goat", "Otto, a fox", "'a goat'"),
            ("smiled at Otto", "smiled at Mia", "'Otto'"),
        ]
        for before, after, expected in breaks:
            self.assertEqual(STORY.count(before), 1, before)
            failure = parse(STORY.replace(before, after))
            self.assertFalse(failure, after)
            self.assertIn(expected, str(failure), after)

    def test_text_after_the_end_and_no_text_are_refused(self):
        self.assertFalse(parse(STORY + " And then"))
        self.assertFalse(parse(""))

    def test_no_story_has_two_of_the_same_name_or_kind(self):
        for one, other, form in (("hero", "friend", "name"), ("kind", "friend_kind", "noun")):
            words = [entry[form] for slot in (one, other) for entry in LEXICONS[slot]]
            self.assertEqual(len(words), len(set(words)))

    def test_a_reply_must_be_about_what_was_asked_for(self):
        self.assertTrue(parse_reply("Tell me a story about a fox.", STORY))
        self.assertTrue(parse_reply("Write a story about Mia and Otto.", STORY))
        self.assertFalse(parse_reply("Tell me a story about an owl.", STORY))
        self.assertFalse(parse_reply("Sing me a song.", STORY))

    def test_the_same_seed_writes_the_same_story(self):
        self.assertEqual(generate(random.Random(3)), generate(random.Random(3)))


if __name__ == "__main__":
    unittest.main()
