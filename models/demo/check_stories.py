"""Counts how many stories parse under the demo model's grammar. Standard library only.

Reads one JSON string per line on standard input, prints each failure with its reason and then one
line `P of N stories parse`. Exits with 1 if fewer than --minimum of 100 do, 2 on malformed input.
With --request, every story must also be about what that request asks for.
"""

import argparse
import json
import sys

from stories import parse, parse_reply


def read_stories(lines):
    """Yields (line number, story); raises ValueError with the line at fault."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            story = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(story, str):
            raise ValueError(f"line {number} is a JSON {type(story).__name__}, not a string")
        yield number, story


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minimum", type=float, default=95.0, help="percentage that must parse")
    arguments.add_argument("--request", help='such as "Tell me a story about a fox."')
    options = arguments.parse_args()
    total = parsed = 0
    try:
        for number, story in read_stories(sys.stdin):
            verdict = parse_reply(options.request, story) if options.request else parse(story)
            total += 1
            parsed += bool(verdict)
            if not verdict:
                print(f"story {number} does not parse {verdict}")
    except ValueError as error:
        print(f"check_stories: {error}", file=sys.stderr)
        return 2
    print(f"{parsed} of {total} stories parse")
    return 0 if total and 100.0 * parsed >= options.minimum * total else 1


if __name__ == "__main__":
    sys.exit(main())
