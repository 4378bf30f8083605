"""Text arrives in whole characters, and never any of a stop string."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models

from engine.tokenizer import TextStream, token_text
from tests.support.random_pair import byte_tokenizer

TOKENIZER = byte_tokenizer()


def pieces(text, stop=()):
    stream = TextStream(TOKENIZER.backend_tokenizer, stop)
    found = []
    for token in TOKENIZER.encode(text):
        found.append(stream.push(token))
        if stream.stopped:
            break
    return found, stream


@pytest.mark.parametrize(
    "text", ["plain", "日本語", "👩🏽‍🚀 of the 🏳️‍🌈", "e\u0301 n\u0303 ที่", "a\u00a0b\tc\n\nd", "مرحبا"]
)
def test_characters_arrive_whole_and_none_is_lost(text):
    found, stream = pieces(text)
    assert "".join(found) + stream.finish() == text
    assert all("\ufffd" not in piece for piece in found)


def test_a_character_arrives_with_the_token_that_completes_it():
    assert pieces("é日")[0] == ["", "é", "", "", "日"]


def test_an_unfinished_character_is_not_shown():
    stream = TextStream(TOKENIZER.backend_tokenizer)
    first, second, _ = TOKENIZER.encode("日")
    assert [stream.push(first), stream.push(second), stream.finish()] == ["", "", ""]


def llama_2_tokenizer():
    """Of its kind: a space is "▁", a decoder strips the first, and bytes that have no token are tokens each."""
    tokens = {"<unk>": 0, "▁the": 1, "▁cat": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    tokens |= {"s": 259, "▁▁": 260}
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[], byte_fallback=True, unk_token="<unk>"))
    kinds = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(kinds)
    return tokenizer


def test_a_token_by_itself_keeps_the_space_that_a_decoder_strips():
    assert [token_text(llama_2_tokenizer(), token) for token in (1, 259, 260, 3 + 0x0A)] == [" the", "s", "  ", "\n"]
    qwen = TOKENIZER.backend_tokenizer
    assert token_text(qwen, TOKENIZER.encode(" ")[0]) == " "
    assert token_text(qwen, TOKENIZER.get_vocab()["<|im_end|>"]) == "<|im_end|>"


def test_a_character_that_another_token_cuts_short_costs_itself_alone_where_a_token_is_a_byte():
    stream = TextStream(llama_2_tokenizer())
    assert [stream.push(token) for token in (1, 3 + 0x0A, 3 + 0xF0, 2, 2)] == ["the", "\n", "", "cat", " cat"]


def test_nothing_of_a_stop_string_is_shown():
    found, stream = pieces("one two END three", stop=("END",))
    assert "".join(found) == "one two "
    assert stream.stopped


def test_what_only_looked_like_a_stop_string_is_shown_after_all():
    found, stream = pieces("one EN two EN", stop=("END",))
    assert "".join(found) == "one EN two "
    assert not stream.stopped
    assert stream.finish() == "EN"


def test_the_earliest_of_several_stop_strings_ends_the_text():
    found, _ = pieces("abcdef", stop=("def", "cd"))
    assert "".join(found) == "ab"


def test_a_stop_string_of_one_character_holds_nothing_back():
    found, _ = pieces("ab.c", stop=(".",))
    assert found == ["a", "b", ""]


def test_special_tokens_have_no_text():
    stream = TextStream(TOKENIZER.backend_tokenizer)
    assert stream.push(TOKENIZER.get_vocab()["<|im_end|>"]) == ""
