"""Writes the seeds in corpus/, from which tools/fuzz starts: `python3 tests/fuzz/make_corpus.py`. Needs protoc."""
import json
import pathlib
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"

SAMPLING = ("sampling { temperature: 0.7 top_k: 5 top_p: 0.9 seed: 7 min_p: 0 repetition_penalty: 1.1 presence_penalty: 0 "
            "frequency_penalty: 0 min_tokens: 2 }")


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def frame(text):
    """A StepBatch, given as protobuf's text, behind its length."""
    data = subprocess.run(["protoc", "-Iproto", "--encode=lockstep.v1.StepBatch", "proto/lockstep/v1/cluster.proto"],
                          cwd=ROOT, input=text.encode(), capture_output=True, check=True).stdout
    return struct.pack("<H", len(data)) + data


def steps():
    start = (f"epoch: 1 step_id: 1 new_sequences {{ sequence_id: 1 prompt_tokens: 3 end_token_ids: 2 {SAMPLING} }} "
             "chunks { sequence_id: 1 token_ids: [5, 6, 7] new_block_ids: 0 sample: true }")
    decode = "epoch: 1 step_id: 2 chunks { sequence_id: 1 first_position: 3 sample: true }"
    free = "epoch: 1 step_id: 3 freed_sequence_ids: 1"
    scored = ("epoch: 1 step_id: 1 new_sequences { sequence_id: 9 prompt_tokens: 20 prompt_logprobs: true "
              f"prompt_top_logprobs: 2 logprobs: true top_logprobs: 1 {SAMPLING} }} chunks {{ sequence_id: 9 token_ids: "
              f"[{', '.join(map(str, range(16)))}] new_block_ids: 3 next_token_id: 16 }}")
    shared = (f"epoch: 1 step_id: 2 new_sequences {{ sequence_id: 10 choice: 1 prompt_tokens: 17 shared_block_ids: 3 "
              f"shared_token_ids: [{', '.join(map(str, range(16)))}] {SAMPLING} }} chunks {{ sequence_id: 10 "
              "first_position: 16 token_ids: 30 new_block_ids: 4 sample: true }")
    return {"decode": [start, decode, free], "shared": [scored, shared], "stale_epoch": [start.replace("epoch: 1", "epoch: 2")],
            "gap": [start, decode.replace("step_id: 2", "step_id: 4")], "unknown": [free.replace("step_id: 3", "step_id: 1")]}


def tensor_file(header, bytes_after):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(bytes_after)


def main():
    for name, batches in steps().items():
        write("step_fuzz", name, b"".join(map(frame, batches)))

    pair = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}, "__metadata__": {"format": "pt"}}
    write("safetensors_fuzz", "two", tensor_file(pair, 32))
    write("safetensors_fuzz", "short", tensor_file(pair, 31))
    write("safetensors_fuzz", "overlap", tensor_file({**pair, "c": pair["b"]}, 32))
    write("safetensors_fuzz", "huge", tensor_file({"a": {**pair["a"], "shape": [2**62, 8]}}, 24))
    write("safetensors_fuzz", "lying_length", struct.pack("<Q", 2**63) + b"{}")

    common = {"model": "bytes", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "n": 2, "seed": 1,
              "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True},
              "logit_bias": {"3": 1.5}, "min_tokens": 1, "ignore_eos": True, "return_token_ids": True}
    bodies = {"text": {"prompt": "hello", **common, "echo": True, "logprobs": 2}, "ids": {"prompt": [1, 2, 3]},
              "batch": {"prompt": [[1], [2, 3]], "max_tokens": 0, "echo": True},
              "chat": {"messages": [{"role": "user", "content": [{"type": "text", "text": "zwölf"}]}], **common,
                       "logprobs": True, "top_logprobs": 2, "chat_template_kwargs": {"deep": [1, {"x": None}]}},
              "detokenize": {"tokens": [1, 2, 300]}, "numbers": {"prompt": "x", "seed": 2**64 - 1, "max_tokens": 1e300}}
    for name, body in bodies.items():
        write("json_fuzz", name, json.dumps(body, ensure_ascii=False))
    write("json_fuzz", "brackets", "[" * 80)

    messages = json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
    templates = {"loop": "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content | trim }}{% endfor %}",
                 "raise": "{{ raise_exception('no ' + messages[0]['role']) }}",
                 "macro": "{% macro f(x) %}{{ x | tojson }}{% endmacro %}{{ f(messages) }}{% set ns = namespace(n=0) %}",
                 "endless": "{% for i in range(99999999) %}{% for j in range(99999999) %}x{% endfor %}{% endfor %}",
                 "broken": "{% if %}{{"}
    for name, template in templates.items():
        write("template_fuzz", name, f"{template}\n---\n{messages}")

    for index, text in enumerate(["Once upon a time", "zwölf Boxkämpfer\n\n", "<s> 🦉 </s>", "\t  \u200b\ufffd"]):
        for tokenizer in range(5):
            write("tokenizer_fuzz", f"text_{index}_{tokenizer}", bytes([tokenizer]) + text.encode())
    write("tokenizer_fuzz", "not_utf8", b"\x00\xff\xfe\xc3")


if __name__ == "__main__":
    main()
