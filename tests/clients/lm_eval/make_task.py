"""Writes pronouns.jsonl: stories of the demo model's grammar up to a pronoun, and the two that could follow.

    python3 tests/clients/lm_eval/make_task.py
"""
import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "models" / "demo"))
import stories  # noqa: E402

OTHER = {"She": "He", "He": "She", "her": "him", "him": "her", "she": "he", "he": "she"}
COUNT = 40


def questions(rng):
    """One question per story: the last pronoun that has an opposite."""
    while True:
        story = stories.generate(rng)
        pronouns = [(start, story.text[start:end]) for start, end in story.echoes if story.text[start:end] in OTHER]
        if not pronouns:
            continue
        start, word = pronouns[-1]
        choices = sorted([word, OTHER[word]])
        yield {"context": story.text[:start].rstrip(), "choices": choices, "answer": choices.index(word)}


def main():
    question = questions(random.Random(20))
    with open(HERE / "pronouns.jsonl", "w", encoding="utf-8") as out:
        for _ in range(COUNT):
            out.write(json.dumps(next(question)) + "\n")


if __name__ == "__main__":
    main()
