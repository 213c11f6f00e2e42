"""The closed-vocabulary tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.models.clip import WordTokenizer, vocabulary

WORDS = ["a", "car", "red", "street", "the"]
TOKENIZER = WordTokenizer(WORDS, 8)


def test_tokens_lie_as_in_openai_s_clip():
    tokens = TOKENIZER("A red car.")
    start, end = TOKENIZER.sot_token_id, TOKENIZER.eot_token_id
    assert tokens.tolist() == [[start, 2, 4, 3, end, 0, 0, 0]]
    assert end == tokens.max() == TOKENIZER.vocab_size - 1


def test_long_sentences_are_cut_and_keep_their_end():
    tokens = TOKENIZER("the red car the red car the red car")
    assert tokens.shape == (1, 8)
    assert tokens[0, -1] == TOKENIZER.eot_token_id


def test_unknown_words_have_a_token_and_can_be_asked_for():
    assert TOKENIZER.encode("a purple car") == [2, 1, 3]
    assert TOKENIZER.unknown("a purple car") == ["purple"]


def test_a_vocabulary_is_sorted_and_read_from_its_file(tmp_path):
    words = vocabulary(["A red car.", "The street, a car"])
    assert words == [",", "a", "car", "red", "street", "the"]
    file = tmp_path / "vocabulary.txt"
    file.write_text("\n".join(words) + "\n")
    assert WordTokenizer.from_file(file, 8).words == words


def test_a_context_without_room_for_a_word_is_refused():
    with pytest.raises(InputError, match="start, one word and end"):
        TOKENIZER("a car", context_length=2)


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_known_words_come_back(words):
    assert TOKENIZER.decode(TOKENIZER(" ".join(words))[0]).split() == words


@given(st.text(max_size=80))
def test_any_text_has_one_start_and_one_end(text):
    tokens = TOKENIZER(text)[0].tolist()
    assert tokens[0] == TOKENIZER.sot_token_id
    assert tokens.count(TOKENIZER.eot_token_id) == 1
