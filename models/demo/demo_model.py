"""What the demo model is made of apart from its weights: tokenizer, configuration, chat template.

Everything that decides the shape of the directory is here, so that train.py is only training and
measure.py only measuring. The files are written by hand rather than by Transformers' savers, so
that readers of older and newer versions find the keys that they know.
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from stories import generate
from story_grammar import RULES

VOCAB_SIZE = 1024
MAX_POSITIONS = 2048

BOS, EOS, TURN_END = "<|begin_of_text|>", "<|end_of_text|>", "<|end_of_turn|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = [BOS, EOS, TURN_END, SYSTEM, USER, ASSISTANT]

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('roles are system, user and assistant, not ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end_of_turn|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_config():
    """Heads, key-value heads, FFN and vocabulary divide by 8 or repeat evenly; layers by 4."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=MAX_POSITIONS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=SPECIAL_TOKENS.index(BOS),
        eos_token_id=[SPECIAL_TOKENS.index(EOS), SPECIAL_TOKENS.index(TURN_END)],
    )


def train_tokenizer(seed, num_stories=20000):
    """Byte-level BPE over stories and requests; encoding adds BOS, as Llama's tokenizers do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(seed)
    corpus = [generate(rng).text for _ in range(num_stories)]
    corpus += [generate(rng, "request").text for _ in range(num_stories // 10)]
    corpus += RULES["instruction"] * 100
    tokenizer.train_from_iterator(corpus, trainer)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the corpus yields {tokenizer.get_vocab_size()} tokens, not {VOCAB_SIZE}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, SPECIAL_TOKENS.index(BOS))],
    )
    return tokenizer


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_config(directory, config):
    """config.json with the keys of Transformers 5 and their older namesakes side by side."""
    content = config.to_dict()
    content.pop("_name_or_path", None)
    content["architectures"] = ["LlamaForCausalLM"]
    content["dtype"] = content["torch_dtype"] = "bfloat16"
    content["rope_theta"] = content["rope_parameters"]["rope_theta"]
    _write_json(Path(directory) / "config.json", content)


def write_text_files(directory, tokenizer):
    """tokenizer.json, tokenizer_config.json and generation_config.json."""
    directory = Path(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(directory / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "model_max_length": MAX_POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    })
    _write_json(directory / "generation_config.json", {
        "bos_token_id": SPECIAL_TOKENS.index(BOS),
        "eos_token_id": [SPECIAL_TOKENS.index(EOS), SPECIAL_TOKENS.index(TURN_END)],
        "pad_token_id": SPECIAL_TOKENS.index(EOS),
        "do_sample": True,
        "temperature": 0.8,
    })


def write_directory(directory, model, tokenizer):
    """The whole Hugging Face directory, weights in bf16. `model` is left as it is."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    halved = LlamaForCausalLM(model.config).bfloat16()
    halved.load_state_dict(model.state_dict())
    halved.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    write_config(directory, model.config)
    write_text_files(directory, tokenizer)
