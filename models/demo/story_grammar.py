"""The grammar of the demo model's stories, as data.

RULES maps a nonterminal to its productions, which are plain strings:
  <name>        another nonterminal;
  {slot.form}   a word or phrase of the thing bound to `slot` in this story;
  anything else is literal text.
A slot is bound once for each story, to one entry of LEXICONS[slot], and every later mention must
agree with it: names, pronouns, kinds, colours and places hold from the first sentence to the last.
stories.py writes and parses with these tables; nothing else knows what a story looks like.
"""


def _with_article(word):
    """"fox" -> "a fox", "owl" -> "an owl"."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def _plain(words):
    """Entries with the forms `a` ("an owl") and `noun` ("owl")."""
    return [{"noun": word, "a": _with_article(word)} for word in words.split(", ")]


def _forms(first, second, pairs):
    """Entries with two forms, from (first, second) pairs."""
    return [{first: one, second: two} for one, two in pairs]


_SHE = {"they": "she", "They": "She", "them": "her", "their": "her", "Their": "Her"}
_HE = {"they": "he", "They": "He", "them": "him", "their": "his", "Their": "His"}


def _characters(girls, boys):
    """Names with the pronouns that go with them."""
    return [{"name": name, **_SHE} for name in girls.split(", ")] + [
        {"name": name, **_HE} for name in boys.split(", ")
    ]


# slot -> what it may be bound to. Heroes and friends have names and kinds of their own, so that a
# story never has two of the same.
LEXICONS = {
    "hero": _characters("Mia, Lily, Rosa, Nora, Ella, Ruby", "Tom, Ben, Max, Leo, Sam, Finn"),
    "friend": _characters(
        "Hazel, Ivy, Daisy, Poppy, Clara, Anna", "Oscar, Hugo, Jack, Theo, Milo, Otto"
    ),
    "kind": _plain("fox, rabbit, bear, owl, mouse, hedgehog, squirrel, otter, cat, dog"),
    "friend_kind": _plain("badger, duck, frog, turtle, goat, beaver"),
    "trait": _plain(
        "shy, curious, cheerful, clever, small, young, gentle, quiet, busy, funny, eager, old"
    ),
    "home": _forms("at", "the", [
        ("at the edge of the forest", "the forest"),
        ("in a green valley", "the valley"),
        ("beside a quiet river", "the river"),
        ("on top of a hill", "the hill"),
        ("under an old oak tree", "the oak tree"),
        ("in a little red house", "the little house"),
        ("near the sea", "the sea"),
        ("behind the mill", "the mill"),
        ("in a sunny garden", "the garden"),
        ("by the village pond", "the pond"),
    ]),
    "time": [{"noun": word} for word in ("morning", "afternoon", "evening")],
    "pastime": _forms("verb", "gerund", [
        ("count the clouds", "counting the clouds"),
        ("sing to the birds", "singing to the birds"),
        ("pick berries", "picking berries"),
        ("draw in the sand", "drawing in the sand"),
        ("listen to the wind", "listening to the wind"),
        ("climb trees", "climbing trees"),
        ("watch the boats", "watching the boats"),
        ("dance in the grass", "dancing in the grass"),
        ("look for snails", "looking for snails"),
        ("throw stones into the water", "throwing stones into the water"),
    ]),
    "color": _plain("red, blue, yellow, green, silver, golden, white, purple"),
    "toy": _plain(
        "kite, ball, drum, bell, hat, scarf, lantern, book, basket, whistle, blanket, ring"
    ),
    "spot": [{"at": phrase} for phrase in (
        "under the bridge", "behind the barn", "in the tall grass", "inside a hollow log",
        "beside the well", "between two rocks", "under a bush", "next to the fence",
    )],
    "food": _forms("some", "the", [
        ("a big apple pie", "pie"), ("a loaf of bread", "bread"), ("a jar of honey", "honey"),
        ("a bowl of cherries", "cherries"), ("a bag of nuts", "nuts"), ("a round cheese", "cheese"),
        ("a plate of pancakes", "pancakes"), ("a basket of pears", "pears"),
    ]),
    "fear": [{"of": phrase} for phrase in (
        "the dark", "thunder", "deep water", "high places", "loud noises", "the cold wind",
    )],
    "craft": _plain("boat, sled, swing, nest, raft, chair, tent, ladder"),
    "trap": _forms("in", "out", [
        ("in a deep hole", "out of the hole"), ("in the mud", "out of the mud"),
        ("on the roof", "down from the roof"), ("in a thorn bush", "out of the bush"),
        ("on a tall rock", "down from the rock"), ("in an old net", "out of the net"),
    ]),
    "tool": [{"noun": word} for word in ("rope", "plank", "branch", "pole")],
}

RULES = {
    "story": ["<opening> <habit> <meeting> <plot> <closing>"],

    "opening": [
        "Once upon a time, there was {trait.a} {kind.noun} named {hero.name}. "
        "{hero.They} lived {home.at}.",
        "Once upon a time, {trait.a} {kind.noun} named {hero.name} lived {home.at}.",
        "Once upon a time, {home.at}, there lived {trait.a} {kind.noun}. "
        "{hero.Their} name was {hero.name}.",
        "There once was {trait.a} {kind.noun} named {hero.name} who lived {home.at}.",
        "{hero.name} was {trait.a} {kind.noun}. {hero.They} lived {home.at}.",
        "This is the story of {hero.name}, {trait.a} {kind.noun} who lived {home.at}.",
        "Long ago, there was {kind.a} who lived {home.at}. {hero.They} was very {trait.noun}, "
        "and {hero.their} name was {hero.name}.",
    ],
    "habit": [
        "Every {time.noun}, {hero.they} liked to {pastime.verb}.",
        "{hero.They} loved {pastime.gerund}, and {hero.they} did it every {time.noun}.",
        "{hero.name} loved to {pastime.verb} in the {time.noun}.",
        "What {hero.they} liked best was {pastime.gerund} in the {time.noun}.",
    ],
    "meeting": [
        "{hero.Their} best friend was {friend.name}, {friend_kind.a}.",
        "{hero.They} had a good friend, {friend_kind.a} named {friend.name}.",
        "{hero.name} often played with {friend_kind.a} named {friend.name}.",
        "{friend.name}, {friend_kind.a}, was {hero.their} friend.",
    ],
    "plot": ["<lost>", "<afraid>", "<share>", "<quarrel>", "<build>", "<rescue>"],
    "closing": [
        "{hero.name} went back to {home.the} and slept well.",
        "From that day on, {hero.name} and {friend.name} loved {pastime.gerund} together.",
        "The next {time.noun}, {hero.they} and {friend.name} went to {pastime.verb} together.",
        "And the {trait.noun} {kind.noun} and the {friend_kind.noun} were friends for ever.",
        "Then the {kind.noun} and the {friend_kind.noun} walked home to {home.the}.",
        "{hero.name} was still {trait.noun}, but {hero.they} was never lonely again. The end.",
    ],

    "one_day": [
        "One day,", "One {time.noun},", "On a warm day,", "On a windy {time.noun},", "One Sunday,",
    ],
    "happy": ["happy", "very happy", "glad", "full of joy"],
    "thanks": [
        '"Thank you, {friend.name}!" said {hero.name}.',
        '"Thank you so much!" {hero.name} said to {friend.name}.',
        "{hero.name} thanked {friend.name} and gave {friend.them} a hug.",
        "{hero.name} smiled at {friend.name}.",
    ],

    "lost": [
        "<one_day> {hero.name} could not find {hero.their} {color.noun} {toy.noun}. <lost_sad> "
        "<lost_search> <lost_found> <thanks> <lost_lesson>",
    ],
    "lost_sad": [
        "{hero.They} began to cry.",
        '"Where is my {toy.noun}?" {hero.they} asked.',
        "{hero.They} looked in every room, but the {toy.noun} was gone.",
        '"Oh no, I have lost it!" said {hero.name}.',
    ],
    "lost_search": [
        '"I will help you," said {friend.name}.',
        "{friend.name} heard {hero.them} and came to help.",
        "{friend.name} and {hero.name} looked for it all day.",
        '"Do not worry," said {friend.name}. "We will look for the {toy.noun} together."',
    ],
    "lost_found": [
        "At last, {friend.name} found the {color.noun} {toy.noun} {spot.at}.",
        "Then {friend.they} saw something {color.noun} {spot.at}. It was the {toy.noun}!",
        "They looked {spot.at}, and there was the {color.noun} {toy.noun}.",
    ],
    "lost_lesson": [
        "Now {hero.they} always takes good care of the {toy.noun}.",
        "{hero.name} was <happy> to hold {hero.their} {toy.noun} again.",
        "{hero.They} learned that lost things can be found with a friend.",
    ],

    "afraid": [
        "But {hero.name} was afraid of {fear.of}. <afraid_when> <afraid_help> <afraid_try> "
        "<afraid_lesson>",
    ],
    "afraid_when": [
        '<one_day> {friend.name} said, "Come out and play with me!" But {hero.name} hid {spot.at}.',
        "<one_day> {hero.they} hid {spot.at} and did not come out.",
        "<one_day> {friend.name} found {hero.them} {spot.at}. {hero.They} was shaking.",
    ],
    "afraid_help": [
        '"I was afraid of {fear.of} too," said {friend.name}.',
        '{friend.name} took {hero.their} hand. "I will stay with you," {friend.they} said.',
        "{friend.name} gave {hero.them} {color.a} {toy.noun} to hold.",
        "{friend.name} sat down beside {hero.them} and sang a song.",
    ],
    "afraid_try": [
        "{hero.name} took a deep breath and counted to ten.",
        "So {hero.name} closed {hero.their} eyes and took one small step.",
        "Slowly, {hero.name} stood up and went out with {friend.name}.",
    ],
    "afraid_lesson": [
        "After that, {hero.they} was not afraid of {fear.of} any more.",
        "{hero.name} learned to be brave with a friend.",
        '"I did it!" said {hero.name}. {hero.They} was <happy>.',
    ],

    "share": [
        "<one_day> {hero.name} had {food.some}. <share_hungry> <share_doubt> <share_give> "
        "<share_lesson>",
    ],
    "share_hungry": [
        "{friend.name} came by and looked at the {food.the}. {friend.They} was very hungry.",
        '"I am so hungry," said {friend.name}.',
        '{friend.name} asked, "May I have some of your {food.the}?"',
    ],
    "share_doubt": [
        "At first, {hero.name} did not want to share.",
        "{hero.name} thought about it for a while.",
        "{hero.name} wanted to eat all of the {food.the} alone.",
        "{hero.name} looked at the {food.the} and then at {friend.name}.",
    ],
    "share_give": [
        "Then {hero.they} gave half of the {food.the} to {friend.name}.",
        'Then {hero.they} said, "Let us share the {food.the}!"',
        "But {hero.they} gave {friend.them} the biggest piece.",
        "So they sat down {spot.at} and ate the {food.the} together.",
    ],
    "share_lesson": [
        "The {food.the} tasted better with a friend.",
        "They were <happy>.",
        '"You are a good friend," said {friend.name}.',
        "So {hero.name} learned that sharing is fun.",
    ],

    "quarrel": [
        "<one_day> they found {color.a} {toy.noun} {spot.at}. <quarrel_start> <quarrel_bad> "
        "<quarrel_sorry> <quarrel_lesson>",
    ],
    "quarrel_start": [
        '"It is mine!" said {hero.name}. "No, it is mine!" said {friend.name}.',
        "{hero.name} wanted the {toy.noun}, and {friend.name} wanted it too.",
        "Both of them wanted to keep the {color.noun} {toy.noun}.",
    ],
    "quarrel_bad": [
        "They pulled and pulled, and the {toy.noun} fell to the ground.",
        "Then {friend.name} got angry and ran away.",
        "So {hero.name} took the {toy.noun} and went home alone.",
        "They did not talk to each other all day.",
    ],
    "quarrel_sorry": [
        '"I am sorry," said {hero.name}. "You can have the {toy.noun} today."',
        "Then {hero.name} felt bad and said sorry to {friend.name}.",
        '"Let us take turns," said {friend.name} at last.',
        "Then {hero.name} gave the {color.noun} {toy.noun} to {friend.name}.",
    ],
    "quarrel_lesson": [
        "They took turns with the {toy.noun}, and both were <happy>.",
        "A friend is better than {color.a} {toy.noun}.",
        "{hero.name} and {friend.name} never fought about the {toy.noun} again.",
    ],

    "build": [
        "<one_day> {hero.name} wanted to build {craft.a}. <build_fail> <build_help> <build_done> "
        "<build_lesson>",
    ],
    "build_fail": [
        "{hero.They} worked very hard, but the {craft.noun} broke.",
        "The first {craft.noun} was too small, and it fell apart.",
        '"I can not do it," {hero.they} said, and sat down {spot.at}.',
    ],
    "build_help": [
        "{friend.name} brought some wood and {color.a} {tool.noun}.",
        '"Try again," said {friend.name}. "I will hold the {tool.noun}."',
        "{friend.name} showed {hero.them} how to use a {tool.noun}.",
        "{friend.name} came to help and brought a {tool.noun}.",
    ],
    "build_done": [
        "They worked until the {craft.noun} was ready.",
        "This time, the {craft.noun} did not break.",
        "With the {tool.noun}, they made a fine {craft.noun}.",
    ],
    "build_lesson": [
        "{hero.name} was <happy> with the new {craft.noun}.",
        "{hero.name} learned to try again.",
        '"We did it together!" said {hero.name}.',
        "They painted the {craft.noun} {color.noun}.",
    ],

    "rescue": [
        "<one_day> {friend.name} was stuck {trap.in}. <rescue_call> <rescue_tool> <rescue_out> "
        "<rescue_lesson>",
    ],
    "rescue_call": [
        '"Help! Help!" called {friend.name}.',
        "{hero.name} heard {friend.them} call and ran to see.",
        '"I can not move," said {friend.name}. {friend.They} was scared.',
    ],
    "rescue_tool": [
        '"Wait here, I will get a {tool.noun}," said {hero.name}.',
        "{hero.name} saw a {tool.noun} {spot.at} and had an idea.",
        "{hero.name} ran home to {home.the} and came back with a {tool.noun}.",
    ],
    "rescue_out": [
        "{friend.name} held on to the {tool.noun}, and {hero.name} got {friend.them} {trap.out}.",
        "With the {tool.noun}, {hero.name} helped {friend.them} {trap.out}.",
        "{hero.They} pulled the {tool.noun} as hard as {hero.they} could, and {friend.name} came "
        "{trap.out}.",
    ],
    "rescue_lesson": [
        '"You saved me!" said {friend.name}.',
        "As a thank you, {friend.they} gave {hero.name} {food.some}.",
        "{friend.They} said thank you and gave {hero.name} {color.a} {toy.noun}.",
        "Now {friend.name} was safe again, and both were <happy>.",
    ],

    # What a user asks for; the slots that it binds hold in the story that answers it.
    "request": ["<ask> <about>.", "<ask> <about>", "<ask> <about>, please.", "<ask>."],
    "ask": [
        "Tell me a story", "Tell me a story", "Please tell me a story", "Write a story",
        "I would like a story", "Write a short story", "Tell me a short story", "Give me a story",
    ],
    "about": [
        "about {kind.a}", "about {kind.a} named {hero.name}", "about {hero.name}",
        "about {trait.a} {kind.noun}", "about {hero.name} and {friend.name}",
        "about {kind.a} and {friend_kind.a}",
    ],
    "instruction": [
        "You tell short stories.", "You are a kind storyteller.", "You are a helpful assistant.",
    ],
}
