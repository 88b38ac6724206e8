"""Makes the tokenizers and the expected values of text/testdata.

Needs the versions in PINNED (pip install transformers==... tokenizers==...). Small tokenizers of
each family are trained on the sentences below; what Transformers then makes of test strings and of
templates/*.jinja goes to expected_tokens.json and expected_chats.json.
Run: python3 make_testdata.py
"""

import json
import pathlib

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers.utils.chat_template_utils import render_jinja_template

PINNED = {"transformers": "5.23.0", "tokenizers": "0.23.3"}
HERE = pathlib.Path(__file__).parent

CORPUS = [
    "The keeper of the lighthouse counted the waves until the lamp was lit.",
    "A worker holds one slice of the model, and the coordinator holds the prompt.",
    "Every morning the fox walks along the river and asks the miller for news.",
    "Numbers such as 1, 23, 456 and 7890 are split into groups of three digits.",
    "Don't you think it's late? They've gone, she'd said, and we'll follow them.",
    "Größe, naïve, café, señor, Übermut, crème brûlée and façade have accents.",
    "    indented lines\n\twith tabs\n\n\nand blank lines\r\nbetween them",
] * 3

TEXTS = [
    "",
    " ",
    "The keeper of the lighthouse",
    " leading and trailing  spaces  ",
    "Don't we'll THEY'VE 12345678 3.14",
    "Größe naïve café crème",
    "日本語のテキスト and русский текст",
    "emoji 🦊🏮 family 👩‍👩‍👧 flag 🇫🇷",
    "line\nbreaks\r\n\r\n  and\ttabs",
    "a special <|end|> inside and <s> another </s>",
    "unknown: \u0001 \u2028 \ufffd ﬀ ½ Å",
    "▁metaspace▁itself <0x41> spelt out",
]

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level():
    """As Llama-3 and Qwen: a regular expression, then BPE over bytes."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
            special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]),
    ])
    return tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}


def sentencepiece_bpe(strip):
    """As Llama-2 (strip) and Gemma: spaces as U+2581, unknown characters as bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=300, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)])
    trainer.vocab_size += 256
    trained.train_from_iterator([f" {word}" for text in CORPUS for word in text.split(" ")], trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Tokenizer(models.BPE(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if strip else replace)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        steps + ([decoders.Strip(content=" ", left=1)] if strip else []))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram():
    """As T5: Unigram over words that begin with U+2581, and </s> at the end."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=250, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"],
        show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>",
        special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def word_piece():
    """As BERT: lower case, whole words first, "##" for what continues one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]")))
    tokenizer.enable_truncation(4)  # Which Transformers, and so Lockstep, does not apply.
    return tokenizer, {"unk_token": "[UNK]", "pad_token": "[PAD]"}


def save(name, tokenizer, special_tokens):
    """Writes a model directory; one added token is known to tokenizer_config.json alone."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=0) + "\n")
    late = AddedToken("<|late|>", special=True, normalized=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special_tokens,
        "added_tokens_decoder": {str(tokenizer.get_vocab_size()): {
            "content": late.content, "special": True, "normalized": False, "lstrip": False,
            "rstrip": False, "single_word": False}},
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    return folder


def token_cases(name, folder):
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    cases = []
    for text in TEXTS + ["ends <|late|> here"]:
        for special in (False, True):
            ids = tokenizer.encode(text, add_special_tokens=special)
            cases.append({
                "tokenizer": name, "text": text, "add_special_tokens": special, "ids": ids,
                "kept": tokenizer.decode(ids, skip_special_tokens=False),
                "skipped": tokenizer.decode(ids, skip_special_tokens=True),
            })
    return cases


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a <place> & \"time\", in °C",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}},
                   "required": ["place"]}}}]
DIALOGUE = [
    {"role": "user", "content": "  What's the weather in Zürich? "},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSunny."},
    {"role": "user", "content": "And 'now'?\n"},
]
CALLS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {
        "name": "get_weather", "arguments": {"place": "Oslo", "days": 1.0, "tiny": 1e-7}}}]},
    {"role": "tool", "content": "{\"t\": -3}"},
]
PARTS = [{"role": "user", "content": [
    {"type": "text", "text": "one "}, {"type": "image"}, {"type": "text", "text": "two"}]}]
DATA = {"z": [], "a": {}, "text": "é\u2028\"\\\n\u0001<&'>🦊", "n": [1, -2.5, 1e16, 1e-05, True, None],
        "nested": {"k": [{"x": 1}]}}
CHATS = [
    ("chatml", DIALOGUE, True, {}),
    ("chatml", DIALOGUE, False, {}),
    ("chatml", DIALOGUE, True, {"enable_thinking": False}),
    ("chatml", CALLS, True, {"tools": TOOLS}),
    ("headers", CALLS[:2], True, {"date_string": "26 Jul 2024"}),
    ("headers", PARTS, True, {"date_string": "26 Jul 2024", "bos_token": "<other>"}),
    ("turns", DIALOGUE, True, {}),
    ("turns", CALLS, True, {}),
    ("turns", DIALOGUE[:1] * 2, True, {}),
    ("masks", DIALOGUE, False, {}),
    ("python", DIALOGUE, False, {"data": DATA}),
]


def chat_cases():
    special_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for name, messages, add_generation_prompt, kwargs in CHATS:
        case = {"template": name, "messages": messages, "kwargs": kwargs,
                "add_generation_prompt": add_generation_prompt}
        source = (HERE / "templates" / f"{name}.jinja").read_text()
        variables = {**special_tokens, **kwargs}
        try:
            rendered, _ = render_jinja_template(
                conversations=[messages], chat_template=source, tools=variables.pop("tools", None),
                add_generation_prompt=add_generation_prompt, **variables)
            case["rendered"] = rendered[0]
        except Exception as error:  # Whatever the template raised is what is expected.
            case["raises"] = str(error)
        cases.append(case)
    return {"special_tokens": special_tokens, "cases": cases}


def main():
    found = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    if found != PINNED:
        raise SystemExit(f"needs {PINNED}, found {found}")
    makers = {
        "byte_level": byte_level, "llama2_style": lambda: sentencepiece_bpe(True),
        "gemma_style": lambda: sentencepiece_bpe(False), "unigram": unigram,
        "word_piece": word_piece,
    }
    cases = []
    for name, make in makers.items():
        cases += token_cases(name, save(name, *make()))
    for path, content in (("expected_tokens.json", cases), ("expected_chats.json", chat_cases())):
        (HERE / path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
