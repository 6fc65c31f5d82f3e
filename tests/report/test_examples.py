"""Cards of a report: which questions, and what a card says."""

from __future__ import annotations

from crema_core.report.html import MAX_CHARS, MAX_CHOICES, NUM_CARDS, About, alternating, chosen_lines, examples_block


def line(sample: int, kind: str, *, correct: bool) -> dict[str, object]:
    return {
        "id": f"{sample}-{kind}", "type": kind, "question": f"{kind} {sample}?", "answer": "yes",
        "prediction": "yes" if correct else "no", "correct": correct,
    }  # fmt: skip


LINES = [line(sample, kind, correct=sample != 1) for sample in range(3) for kind in ("a", "b")]


def test_types_alternate_and_samples_differ() -> None:
    assert [entry["id"] for entry in alternating(LINES, correct=True)] == ["0-a", "2-b", "2-a", "0-b"]
    assert [entry["id"] for entry in alternating(LINES, correct=False)] == ["1-a", "1-b"]


def test_wrong_ones_come_first_and_both_kinds_are_shown() -> None:
    html = examples_block(LINES, note=lambda entry: f"note {entry['id']}")
    assert html.count('class="card"') == 6
    assert html.count("wrong, expected: yes") == 2
    assert "note 2-b" in html
    assert html.rindex('class="bad"') < html.index('class="good"')
    assert "6 of 6 answered questions: 2 of 2 wrong ones, then 4 of 4 right ones." in html


def test_the_number_of_cards_is_bounded_and_what_one_kind_does_not_need_the_other_gets() -> None:
    for num_right, num_wrong, shown in ((50, 50, (6, 12)), (50, 3, (15, 3)), (2, 50, (2, 16)), (0, 5, (0, 5))):
        lines = [line(number, "a", correct=number < num_right) for number in range(num_right + num_wrong)]
        chosen = chosen_lines(lines)
        right = [own["correct"] for own in chosen]
        assert (sum(right), len(right) - sum(right)) == shown
        assert len(chosen) <= NUM_CARDS
        assert right == sorted(right)
        assert chosen == chosen_lines(list(lines))


def test_an_evaluation_without_any_wrong_answer_is_fine() -> None:
    assert examples_block([]) == '<div class="cards"></div>'


def test_a_card_shows_file_choices_and_picture_or_why_there_is_none() -> None:
    about = About("a.mp4#t=1,2", ("yes", "no"), b"\xff\xd8jpeg", 'clip of "a.mp4"')
    html = examples_block(LINES[:1], about=lambda entry: about)
    assert '<img alt="clip of &quot;a.mp4&quot;" src="data:image/jpeg;base64,/9hqcGVn">' in html
    assert '<p class="file">a.mp4#t=1,2</p><p>a 0?</p><ol><li>yes</li><li>no</li></ol>' in html
    html = examples_block(LINES[:1], about=lambda entry: About("a.mp4", reason="'a.mp4' is empty"))
    assert '<p class="none">No picture: &#x27;a.mp4&#x27; is empty</p><p class="file">a.mp4</p>' in html
    assert "<img" not in html


def test_only_the_samples_of_cards_are_looked_at_and_long_texts_are_cut() -> None:
    asked: list[object] = []
    lines = [line(number, "a", correct=False) | {"question": "word " * 20_000} for number in range(100)]
    many = About("f" * 10_000, tuple(f"{number} " + "c" * 1000 for number in range(500)))
    html = examples_block(lines, about=lambda entry: asked.append(entry["id"]) or many)
    assert len(asked) == NUM_CARDS
    assert html.count("<li>") == NUM_CARDS * MAX_CHOICES
    assert "and 490 more choices" in html
    assert len(html) < NUM_CARDS * (6 * MAX_CHARS + MAX_CHOICES * 150)
