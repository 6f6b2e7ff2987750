"""A Qwen3 of two layers with random weights: ERank's architecture, tokenizer rules and chat frame, in a megabyte."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20
CONTEXT_TOKENS = 4096
VOCABULARY = 640
END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# How Qwen2 and Qwen3 split text before merging bytes: a digit alone, punctuation with the line ends behind it.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Each often enough for its punctuation and line ends to become one token, as in the real vocabulary.
SENTENCES = (
    "Given a query, retrieval relevant passage.\n\nThe ship sails over the sea at night.\n\n",
    "Query: which document answers?\n\nDocument: the second one answers.\n\n",
    "Answer with an integer from 0 to 10:\n\nthe higher, the more relevant.\n",
    '{"role": "user", "content": "a question"}\n\n(and a remark)\n\n',
    "user\nassistant\nsystem\n\n\n",
)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tiny_qwen3(folder: Path) -> None:
    """Write the model to `folder`, as transformers and vLLM read it; the same bytes each time."""
    tokenizer = _train_tokenizer()
    tokenizer.save_pretrained(folder)
    config = _config(tokenizer, hidden_size=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Qwen3ForCausalLM(config)
    model.to(torch.float32).save_pretrained(folder)


def make_writing_qwen3(folder: Path, writes: str) -> None:
    """Write a model to `folder` that thinks and answers as `writes`, whatever it is asked, and then ends its turn.

    It knows only what follows one token, so a token that stands in `writes` twice is followed twice by what came first.
    """
    tokenizer = _train_tokenizer()
    tokenizer.add_tokens([AddedToken("</answer>", special=False, normalized=False)])  # else "<" stands there twice
    tokenizer.save_pretrained(folder)
    [begin, end] = tokenizer.convert_tokens_to_ids(["<think>", STOP])
    chain = [begin, *tokenizer.encode(writes, add_special_tokens=False), end]
    after: dict[int, int] = {}
    for token, following in pairwise(chain):
        after.setdefault(token, following)
    model = Qwen3ForCausalLM(_config(tokenizer, hidden_size=VOCABULARY))
    with torch.no_grad():
        # A token's embedding is a direction of its own, and no layer adds to it, so it alone gives what follows.
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for token in range(VOCABULARY):
            model.lm_head.weight[after.get(token, end), token] = 1.0
    model.to(torch.float32).save_pretrained(folder)


def _config(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=False,
        # Wide enough for the next token to depend on what was read, so that scores differ.
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(STOP),
        pad_token_id=tokenizer.convert_tokens_to_ids(END),
        dtype="float32",
    )


def _train_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 32,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (END, START, STOP)])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=STOP,
        pad_token=END,
        chat_template=TEMPLATE,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
