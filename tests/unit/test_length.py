"""How long parts are to be, and where a part that runs on is ended."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.decoding.length import Length, Share
from langchain_sgd.decoding.sentences import SentenceEnd, count_words, whole_sentences
from langchain_sgd.skeleton import HARD
from tests.support.chunks import cut, pieces


def ended(chunks: list[str], words: int) -> tuple[str, bool]:
    meter = SentenceEnd(words)
    text = "".join(meter.feed(chunk) for chunk in chunks) + meter.close()
    return text, meter.done


class TestLength:
    def test_it_is_what_a_question_asks_for(self) -> None:  # see `test_wish`
        assert Length.of("Write 300 words on tides.").words == 300
        assert Length.of("What happened in 1984?").words is None

    def test_the_users_option_comes_first(self) -> None:
        assert Length.of("Write 300 words on tides.", 80).words == 80

    def test_brief_and_detailed_answers_have_shorter_and_longer_parts(self) -> None:
        brief, usual, detailed = (
            Length.of(question).share(planned=3, complete=True).words
            for question in ("Why, briefly?", "Why?", "Why? Explain in detail.")
        )
        assert brief < usual < detailed

    def test_the_parts_share_a_target(self) -> None:
        length = Length(400)
        assert length.share(planned=5, complete=True).words == 80
        assert length.share(planned=1, complete=False).words == 100, "four parts are usual"
        assert length.share(planned=8, complete=False).words == 50

    def test_a_part_that_needs_more_has_more(self) -> None:
        length = Length()
        easy, hard = (length.share(planned=4, complete=True, difficulty=d) for d in (1, HARD))
        assert hard.words > easy.words

    def test_the_writer_is_told_a_range(self) -> None:
        assert str(Share(60)) == "one paragraph of 50 to 70 words"
        assert str(Share(300)) == "a few paragraphs of 255 to 345 words"
        assert str(Share(12)) == "one sentence of at most 12 words"

    def test_the_bounds_leave_room(self) -> None:
        share = Share(60)
        assert share.words < share.most_words < share.max_tokens / 2


class TestSentenceEnd:
    @given(st.text("ab .#`:\n", max_size=60), st.integers(1, 5))
    def test_words_are_counted_as_they_come(self, text: str, size: int) -> None:
        meter = SentenceEnd(1_000)
        for at in range(0, len(text), size):
            meter.feed(text[at : at + size])
            assert meter.words == count_words(text[: at + size])

    @pytest.mark.parametrize(
        ("text", "words", "kept"),
        [
            ("One two three. Four five. Six.", 3, "One two three."),
            ("One two three. Four five. Six.", 4, "One two three. Four five."),
            ('He said "Go!" She went. Then', 3, 'He said "Go!"'),
            ("Use tools, e.g. saws. Then rest. Now", 3, "Use tools, e.g. saws."),
            ("It costs 3.5 euros at most. More", 2, "It costs 3.5 euros at most."),
            ("Dr. Smith came. He left.", 1, "Dr. Smith came."),
            ("We met at 5 p.m. in the rain. Then", 4, "We met at 5 p.m. in the rain."),
            ("Steps:\n1. Cut the wood\n2. Glue it\n3. Wait", 5, "Steps:\n1. Cut the wood"),
            ("These are:\n- one thing\n- another", 2, "These are:\n- one thing"),
            ("## A heading here\nText one. Text two.", 2, "## A heading here\nText one."),
            ("```\na. B.\nC. d.\n```\nAfter it. More.", 1, "```\na. B.\nC. d.\n```"),
            ("一句话在这里。第二句话。第三句。", 3, "一句话在这里。"),
            ("Kurz gesagt: ja! Und dann? Nein.", 3, "Kurz gesagt: ja!"),
            ("Er sagt: „Das ist gut.“ Dann ging er. Und", 3, "Er sagt: „Das ist gut.“"),
            ("Es ist so.[1] Dann kam er. Und", 3, "Es ist so.[1]"),
            ("Es ist so.² Dann kam er. Und", 3, "Es ist so.²"),
            ("他说：“做得很好。”然后他走了。好。", 3, "他说：“做得很好。”"),  # noqa: RUF001
            ("भारत एक बड़ा देश है। यह एशिया में है। और", 3, "भारत एक बड़ा देश है।"),
            ("Պատը շատ հին է։ Այն մեծ է։ Եվ", 2, "Պատը շատ հին է։"),  # noqa: RUF001
            ("کتاب اچھی ہے۔ وہ بڑی ہے۔ اور", 2, "کتاب اچھی ہے۔"),  # noqa: RUF001
            ("กำแพงเมืองจีนเก่าแก่มาก สร้างขึ้นนานแล้ว และ", 3, "กำแพงเมืองจีนเก่าแก่มาก"),
            ("성벽은 아주 오래된 건물이다. 크다. 또", 3, "성벽은 아주 오래된 건물이다."),
            ("Deutschland hat 84 Mio. Einwohner. Es", 3, "Deutschland hat 84 Mio. Einwohner."),
            ("Роман написал А. С. Пушкин. Он", 2, "Роман написал А. С. Пушкин."),  # noqa: RUF001
            ("As shown:\n$$\nx = 5. Y\n$$\nSo it is.", 3, "As shown:\n$$\nx = 5. Y\n$$"),
            ("So:\n\\[\nx = 5\n\\]\nThen.", 1, "So:\n\\[\nx = 5\n\\]"),
            ("So:\n| a |\n|---|\n| 1 |\n| 2 |", 1, "So:\n| a |\n|---|\n| 1 |"),
            ("````\n```\na. B\n```\n````\nThen.", 1, "````\n```\na. B\n```\n````"),
            (
                "<details>\nOne. Two.\n\nThree.\n</details>\nThen.",
                1,
                "<details>\nOne. Two.\n\nThree.\n</details>",
            ),
        ],
    )
    def test_where_it_ends(self, text: str, words: int, kept: str) -> None:
        assert ended([text], words) == (kept, True)
        assert ended(list(text), words) == (kept, True)

    @pytest.mark.parametrize("text", ["", "No end", "One two three.", "A list:\n", " a  b\n\n"])
    def test_what_ends_by_itself_is_left_alone(self, text: str) -> None:
        assert ended([text], 3) == (text, False)
        assert ended(list(text), 99) == (text, False)

    @given(
        st.text(st.sampled_from("ab .!\n#`-:。字C1”|$ไ"), max_size=60), st.integers(0, 9), st.data()
    )
    def test_chunks_do_not_matter_and_it_only_cuts(
        self, text: str, words: int, data: st.DataObject
    ) -> None:
        whole = ended([text], words)
        assert ended(data.draw(cut(text)), words) == whole
        assert text.startswith(whole[0])
        assert whole[1] or whole[0] == text

    @pytest.mark.parametrize("junk", ["word ", "x", ". ", "```\n", "\n", "字", "。"])
    def test_the_cost_is_linear(self, junk: str) -> None:
        text = junk * (200_000 // len(junk))
        began = time.process_time()
        ended(pieces(text, range(0, len(text), 3)), 10**9)
        assert time.process_time() - began < 3.0


class TestWholeSentences:
    def test_a_cut_text_goes_to_its_last_sentence(self) -> None:
        assert whole_sentences("One two. Three four. Five si") == "One two. Three four."
        assert whole_sentences("One two. Three four.") == "One two. Three four."

    def test_a_text_that_would_lose_most_is_not_whole(self) -> None:
        assert whole_sentences("Yes. And then a long sentence that never came to its") is None
        assert whole_sentences("nothing ends here") is None
        assert whole_sentences("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one two\nthree", 3),
        ("Miete oder Kauf?", 3),
        ("今天天气很好我们去公园吧", 8),
        ("만리장성은 아주 길다", 3),
        ("กำแพงเมืองจีนเก่าแก่", 4),
    ],
)
def test_words_are_counted_where_no_blanks_stand_between_them(text: str, words: int) -> None:
    assert count_words(text) == words


class TestBegun:
    """The length of a part whose writer goes on with a begun answer."""

    def test_it_is_told_more_and_may_write_more_than_in_words(self) -> None:
        share = Length().share(planned=4, complete=True)
        assert (str(share.begun), share.begun.most_words) == (
            "a full paragraph of 80 to 100 words",
            100,
        )
        assert share.begun.max_tokens > share.max_tokens

    @pytest.mark.parametrize("length", [Length(200), Length(factor=0.5)])
    def test_a_length_that_somebody_wants_bounds_it_as_ever(self, length: Length) -> None:
        share = length.share(planned=4, complete=True)
        assert share.begun.most_words == share.most_words

    def test_a_long_part_is_no_paragraph(self) -> None:
        assert Share(75).begun.is_paragraph
        assert not Share(76).begun.is_paragraph
        assert Share(76).is_paragraph
