"""Questions with damage drawn by chance: skipped with their place, or fit to be asked."""

from __future__ import annotations

from hypothesis import given

from tests.support.mutations import damaged_json
from trainer.questions import Question, prompt, read_questions

ROW = {"id": "q", "question": "1 + 1?", "reference": "It is 2.", "answer": "B", "choices": ["1", "2"]}


@given(content=damaged_json({**ROW, "family": "choice"}))
def test_a_damaged_question_is_skipped_with_its_place_or_can_be_asked(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_bytes(content.replace(b"\n", b" ") + b'\n{"id": "good", "question": "2?", "answer": "2"}\n')
    said: list[str] = []
    questions = read_questions(path, said.append)
    assert questions[-1].id == "good" and len(questions) + len(said) >= 2 - (not content.strip())
    assert all(str(path) in line and "skipped" in line for line in said)
    for question in questions:
        assert isinstance(question, Question) and prompt(question).encode("utf-8")
