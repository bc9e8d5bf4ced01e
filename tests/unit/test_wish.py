# ruff: noqa: RUF001 - several alphabets
"""What length a question asks for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call

from langchain_sgd import Prompts, SGDRunnable
from langchain_sgd.deciding import with_findings
from langchain_sgd.decoding.length import PART_WORDS, Length
from langchain_sgd.decoding.wish import Wish, wished
from tests.support.models import Stage, planning
from tests.support.skeletons import skeleton

WORDS = [
    ("한국의 역사에 대해 1000자 내외로 써 주세요.", 250),
    ("글자 수: 800\n만리장성을 설명해 주세요", 200),
    ("Write a 2-page essay, roughly 600 words, about bees.", 600),
    ("Essay topic: climate change. Word limit: 750 words.", 750),
    ("As a historian, write a 1,000-word account of the fall of Rome.", 1000),
    ("Your task is a blog post. The post should be between 800 and 1000 words.", 900),
    ("~300 words on bees", 300),
    ("Bees (approx. 250-300 words)", 275),
    ("Responses must be under 120 words.", 120),
    ("この文章を200字以内で要約してください。", 125),
    ("Rédige un article d'environ 400 mots sur le vin.", 400),
    ("Escreva um artigo com cerca de 400 palavras sobre vinho.", 400),
    ("Write 300 words on tides.", 300),
    ("A 500-word essay on tides", 500),
    ("In 150 to 200 words: why?", 175),
    ("Schreibe 1.200 Wörter über Gezeiten.", 1200),
    ("Explique en 120 mots.", 120),
    ("Explica en unas 90 palabras.", 90),
    ("用300字说明潮汐。", 188),
    ("写一篇800字的文章，介绍长城", 500),
    ("长城について800文字で説明してください", 500),
    ("만리장성을 800자로 설명해 주세요", 200),
    ("Write 500 words (800字) on the wall", 500),
    ("800文字で説明してください", 500),
    ("500자로 써줘", 125),
    ("写一篇八百字的作文", 500),
    ("以1200字介绍长城", 750),
    ("请介绍长城，不超过800字。", 500),
    ("请介绍长城（800字左右）", 500),
    ("字数：800\n介绍长城", 500),
    ("Your essay must be 300 words", 300),
    ("300词左右介绍长城", 300),
    ("長城を1,600字以内で要約してください", 1000),
    ("300단어로 설명해 주세요", 300),
    ("請用一千六百字介紹長城", 1000),
    ("８００字以内で説明してください", 500),
    ("Write a 1 500 word essay", 1500),
    ("Write 1 000-1 500 words on tides.", 1250),
    ("Explain tides in 1,000 to 1,500 words.", 1250),
    ("Écris un texte de 1 500 mots.", 1500),
    ("Write between 200 and 300 words about tides", 250),
    ("Explain it in 200–300 words", 250),
    ("Write 3 200-word product descriptions", 600),
    ("Write 5 500-word essays on the sea", 2500),
    ("Write 2 100 word summaries", 200),
    ("Schreibe 4 150 Wörter lange Texte", 600),
    ("Write three 200-word stories", 600),
    ("Write 3 essays of 500 words about the sea", 1500),
    ("Answer in at most 100 words. How do tides work?", 100),
    ("How do tides work? Answer in at most 100 words.", 100),
    ("How do tides work? (100 words)", 100),
    ("How do tides work? Max. 100 words.", 100),
    ("Essay on tides, 500 words", 500),
    ("How do tides work?\n\n- Length: 300 words\n- Formal", 300),
    ("How do tides work? Word count: 400", 400),
    ("How do tides work in 100 words?", 100),
    ("Explain tides. Keep your answer under 150 words.", 150),
    ("Limit your answer to 200 words. Why?", 200),
    ("The answer should be no longer than 120 words. Why is the sky blue?", 120),
    ("Why? Your response must not exceed 250 words.", 250),
    ("Can you write me a 500-word essay about dogs?", 500),
    ("I need an article of about 800 words on bees.", 800),
    ("Please write a persuasive 400-word speech.", 400),
    ("Write a blog post of 600 words about Rome", 600),
    ("Tell me about bees. Use at most 80 words.", 80),
    ("500 words about tides, please", 500),
    ("Explain gravity in 10 words.", 10),
    ("Fewer than 10 words.", 10),
    ("Describe tides in 300 words or less", 300),
    ("Write an essay about tides. It should be 300 words long.", 300),
    ("Write about tides using 300 words.", 300),
    ("Discuss in ca. 300 words: tides.", 300),
    ("Do not write more than 100 words about tides.", 100),
    ("Erkläre in 300 Wörtern, wie Gezeiten entstehen.", 300),
    ("Schreibe einen Aufsatz mit 500 Wörtern über Bienen.", 500),
    ("Wie entstehen Gezeiten? Höchstens 100 Wörter.", 100),
    ("Wie entstehen Gezeiten? Antworte in maximal 100 Wörtern.", 100),
    ("Kannst du einen Aufsatz mit 500 Wörtern schreiben?", 500),
    ("Schreibe einen 300 Wörter langen Text über Bienen", 300),
    ("Écris une dissertation de 500 mots sur la mer.", 500),
    ("Explique les marées en 100 mots maximum.", 100),
    ("Comment naissent les marées ? (200 mots)", 200),
    ("Pourquoi ? Réponds en moins de 100 mots.", 100),
    ("Escribe un ensayo de 500 palabras sobre el mar.", 500),
    ("¿Por qué hay mareas? Responde en menos de 100 palabras.", 100),
    ("Explica las mareas en máximo 100 palabras", 100),
    ("Scrivi un saggio di 500 parole sul mare.", 500),
    ("Spiega le maree in 100 parole.", 100),
    ("Perché? Rispondi in massimo 100 parole.", 100),
    ("Scrivi 300 parole sulla luna.", 300),
    ("Escreva uma redação de 500 palavras sobre o mar.", 500),
    ("Explique as marés em até 100 palavras.", 100),
    ("Schrijf een opstel van 500 woorden over de zee.", 500),
    ("Leg de getijden uit in 100 woorden.", 100),
    ("Hoe ontstaan getijden? Maximaal 100 woorden.", 100),
    ("Napisz esej na 500 słów o morzu.", 500),
    ("Wyjaśnij pływy w 100 słowach.", 100),
    ("Dlaczego? Maksymalnie 100 słów.", 100),
    ("Skriv en uppsats på 500 ord om havet.", 500),
    ("Förklara tidvatten i högst 100 ord.", 100),
    ("Förklara tidvatten med 100 ord.", 100),
    ("Напиши эссе на 500 слов о море.", 500),
    ("Объясни приливы в 100 словах.", 100),
    ("Почему? Не более 100 слов.", 100),
    ("Напиши текст объёмом 300 слов о луне.", 300),
]
EACH = [
    ("Give me 5 tips for better sleep, each about 60 words.", 60),
    ("Write stories of 200 words each.", 200),
    ("Explain tides, with at most 100 words per section.", 100),
    ("200-word product descriptions for a lamp and a clock", 200),
    ("Each section should have about 150 words. Explain tides.", 150),
]
NUMBERS_OF_SOMETHING_ELSE = [
    "How can I cut my 3000-word essay down to 2000 words?",
    "Make a plan for writing 2000 words per day.",
    "Describe how to learn 1000 words in a month.",
    "I have a 500-word limit for my college essay. How should I structure it?",
    "My professor wants an essay of 1500 words. How do I start?",
    "Review this 500-word essay: it was a dark night.",
    "The text below has 300 words. Summarize it.",
    "Generate a vocabulary list of 100 words for B1 learners.",
    "¿Cuáles son las 100 palabras más usadas?",
    "常用漢字2136字とは何ですか？",
    "자주 쓰는 100단어는 무엇인가요?",
    "What happened in 1984?",
    "Why are 7 worlds enough?",
    "How did computers with 65,536 words of memory work?",
    "Explain the 3 parole conditions in Texas",
    "Compare the 5 parole boards of the south",
    "Describe Berlin in 5 words, and explain each choice.",
    "Teach me 10 words of Dutch with their history",
    "What are the 100 words every learner needs, and why?",
    "Explain what the three words 'I love you' mean",
    "Why does a picture say more than 1000 words?",
    "Is a picture worth 1,000 words? Discuss.",
    "How did 26 words create the internet (Section 230)?",
    "How many of Shakespeare's 20000 words did he invent?",
    "Compare these two job offers for me.\n\nOffer A: The minister spoke briefly about the office. Offer B: applicants write an essay of 300 words.",
    "Summarize the news of 2024.",
    "How do I write a 500-word essay?",
    "What is the best structure of a 500-word essay?",
    "Give me tips for writing a 500-word essay",
    "How many pages are in 5000 words?",
    "How long does it take to read 1000 words?",
    "Explain 'write 300 words on tides' to a pupil.",
    "Explain the code.\n```\n# write 300 words\n```",
    "Explain 제3자",
    "请介绍千字文",
    "介绍800字节的缓冲区",
    "Translate these 200 words.",
    "Explain how to speak at most 150 words per minute.",
    "List the 100 words that changed English.",
    "Develop a Python program that returns top-5 words with the most number of occurrences.",
    "> Write 300 words\n\nWhat do you think of this task?",
    'What does "in at most 100 words" mean?',
    "Name 5 things. Each name must have at most 3 words.",
    "Explain why a 64-bit word beats a 32-bit word.",
    "Who said that a speech of 300 words is best?",
    "Wer sprach die 100 Wörter?",
    "Explain each rule in at most 30 words per item.",
]
BRIEF = [
    "Why, briefly?",
    "Briefly explain tides.",
    "Explain tides briefly.",
    "Can you briefly explain tides?",
    "Be brief. Why?",
    "Why is the sky blue? Keep it brief.",
    "Give me a brief overview of tides.",
    "A brief summary of tides",
    "Short answer: why?",
    "Give a short answer.",
    "Explain tides in a nutshell.",
    "Please be concise.",
    "Keep your answers very brief.",
    "Explain to me briefly how tides work.",
    "Give me a brief history of Rome",
    "Erkläre kurz die Gezeiten.",
    "Erkläre mir kurz, wie Gezeiten entstehen.",
    "Fasse dich kurz. Warum?",
    "Bitte fassen Sie sich kurz.",
    "Warum? Antworte kurz und knapp.",
    "Gib eine kurze Antwort.",
    "Kannst du kurz erklären, warum?",
    "Explique brièvement les marées.",
    "Pourquoi, en bref ?",
    "Sois bref.",
    "Donne une réponse courte.",
    "Explica brevemente las mareas.",
    "Escribe un breve resumen.",
    "Da una respuesta corta.",
    "Spiega brevemente le maree.",
    "Sii breve.",
    "Explique brevemente as marés.",
    "Leg kort uit hoe getijden ontstaan.",
    "Geef een kort antwoord.",
    "Wyjaśnij krótko pływy.",
    "Podaj krótką odpowiedź.",
    "Förklara kort hur tidvatten uppstår.",
    "Объясни кратко приливы.",
    "Дай краткий ответ.",
    "Вкратце: почему?",
    "简要介绍长城",
    "请简单介绍一下长城",
    "簡潔に説明してください",
    "간단히 설명해 주세요",
]
NOT_BRIEF = [
    "Write a brief on housing policy.",
    "Write a summary of this brief: the client wants a lamp.",
    "What is brief therapy?",
    "You are a helpful, concise assistant.",
    "Wie kündige ich eine Wohnung richtig mit einem Brief?",
    "What belongs into a legal brief?",
    "Explain the themes of A Brief History of Time in great detail",
    "Was bedeutet 'zu kurz gekommen'?",
    "Wer ist im Leben zu kurz gekommen?",
    "Schreibe einen Brief an meinen Vermieter",
    "Write a launch brief for a new lamp from Oakham for nurses, price under $60, delivery $4.",
    "Write a launch brief for a new lamp",
    "Who were the Briefs?",
    "Summarize the plot.\n\nContext from the library: The preface is brief.",
    "Compare both.\n\nThe minister spoke briefly about it.",
    "Schrijf een brief aan mijn huurbaas met uitleg",
    "Who briefly ruled France in 1815?",
    "Erkläre die Lage kurz vor dem Krieg.",
    "Was geschah kurz nach dem Krieg?",
    "Make me a legal brief",
    "Why did he rule so briefly?",
    "What is a short story?",
    "Write a short story about a dog.",
]
DETAILED = [
    "Why? Explain in detail.",
    "Write a detailed report.",
    "Explain thoroughly how tides work.",
    "Give a comprehensive overview of tides.",
    "Erkläre ausführlich die Gezeiten.",
    "Explique les marées en détail.",
    "Explica en detalle las mareas.",
    "Подробно объясни приливы.",
    "详细介绍长城",
    "詳しく説明してください",
    "자세히 설명해 주세요",
    "Wyjaśnij szczegółowo pływy.",
    "Give me an in-depth analysis of tides.",
    "Could you thoroughly explain tides?",
    "Explain in more detail why.",
    "Förklara utförligt",
    "Leg uitgebreid uit",
]
NOT_DETAILED = [
    "What is a comprehensive school?",
    "Why is comprehensive insurance dear?",
    "How detailed must a contract be?",
    "Compare them.\n\nThe report is detailed. It was discussed at length.",
]
PASTED = "He said a lot of things about it. " * 300


class TestNumbers:
    @pytest.mark.parametrize(("question", "words"), WORDS)
    def test_words_of_the_whole(self, question: str, words: int) -> None:
        assert wished(question) == Wish(words)

    @pytest.mark.parametrize(("question", "words"), EACH)
    def test_words_of_each_of_several_texts(self, question: str, words: int) -> None:
        assert wished(question) == Wish(each=words)
        share = Length.of(question).share(planned=3, complete=True)
        assert share.words == words > PART_WORDS

    @pytest.mark.parametrize("question", NUMBERS_OF_SOMETHING_ELSE)
    def test_what_speaks_of_words_asks_for_none(self, question: str) -> None:
        wish = wished(question)
        assert (wish.words, wish.each) == (None, None)

    @pytest.mark.parametrize("order", ["Summarize the text in 100 words.", "At most 100 words."])
    def test_both_ends_of_a_long_text_are_read(self, order: str) -> None:
        assert wished(f"{order}\n\n{PASTED}").words == 100
        assert wished(f"{PASTED}\n\n{order}").words == 100
        assert wished(f"Summarize it.\n\n{PASTED}{order} {PASTED}").words is None


class TestManners:
    @pytest.mark.parametrize("question", BRIEF)
    def test_a_brief_answer(self, question: str) -> None:
        assert wished(question) == Wish(factor=0.5)

    @pytest.mark.parametrize("question", NOT_BRIEF)
    def test_no_brief_answer(self, question: str) -> None:
        assert wished(question).factor >= 1.0

    @pytest.mark.parametrize("question", DETAILED)
    def test_a_detailed_answer(self, question: str) -> None:
        assert wished(question) == Wish(factor=1.7)

    @pytest.mark.parametrize("question", NOT_DETAILED)
    def test_no_detailed_answer(self, question: str) -> None:
        assert wished(question) == Wish()

    def test_both_are_neither(self) -> None:
        assert wished("Give a brief overview, and then a detailed plan.") == Wish()


class TestSeveralTexts:
    def test_the_first_that_names_a_length_counts(self) -> None:
        assert wished("Why? In 50 words.", "Answer in at most 100 words.").words == 50
        assert wished("Why?", "You are a tutor. Answer in at most 100 words.").words == 100
        assert wished("Why?", "Be concise.").factor == 0.5
        assert wished("Explain in detail.", "Be concise.").factor == 1.7

    def test_a_number_counts_before_a_manner(self) -> None:
        assert wished("Why, briefly?", "Answer in at most 100 words.") == Wish(100)


@given(st.text(st.sampled_from("in keep to 300 1 000 words, of-a(八百字用brief\n\"'>`.?")))
def test_every_text_can_be_read(text: str) -> None:
    words, each, factor = wished(text)
    assert words is None or (each is None and factor == 1.0 and words >= 0)


@pytest.mark.parametrize(
    "junk",
    ["keep to ", "1 000 ", "八百", "-", ", ", "at most ", "300 words ", '"', "be brief ", "\n>"],
)
def test_the_cost_is_bounded(junk: str) -> None:
    wished("Write 300 words.", "brief")  # compiled once
    began = time.process_time()
    wished(junk * 100_000)
    assert time.process_time() - began < 1.0


# -- where it is read


CALL = tool_call(name="search", args={}, id="c")
FOUND = "Write a review of at most 150 words, briefly. In 150 words: (150 words)"


async def told(*said: BaseMessage) -> str:
    """What the first part's writer is told last."""
    stage = Stage({"planner": planning(skeleton("1", "2", "3", "4"))})
    await SGDRunnable(**stage.pair(), mode="always").ainvoke([*said])
    return stage.of("1")[0].prompt


async def test_a_system_prompt_asks_for_a_length() -> None:
    system, why = SystemMessage("You help. Answer in at most 400 words."), HumanMessage("Why?")
    assert "of 85 to 115 words" in await told(system, why)
    assert "of 170 to 230 words" in await told(system, HumanMessage("Why? In 800 words."))


async def test_an_earlier_question_asks_for_no_length() -> None:
    before = [HumanMessage("Why? In 400 words."), AIMessage("So.")]
    assert "of 85 to 115 words" not in await told(*before, HumanMessage("And tsunamis?"))


@pytest.mark.parametrize("ask", ["Compare both laptops.", [{"type": "text", "text": "Compare."}]])
async def test_what_tools_have_found_asks_for_no_length(
    ask: str | list[str | dict[str, str]],
) -> None:
    found = [AIMessage("", tool_calls=[CALL]), ToolMessage(FOUND, tool_call_id="c")]
    usual = await told(HumanMessage(ask))
    given = await told(*with_findings(Prompts(), [HumanMessage(ask), *found]))
    as_they_are = await told(HumanMessage(ask), *found)
    length = usual[usual.rindex("one paragraph of") :]
    assert FOUND in given
    assert given.endswith(length)
    assert as_they_are.endswith(length)


def test_the_question_is_what_a_human_said_last() -> None:
    prompts = Prompts()
    assert prompts.asked_in([AIMessage("In 300 words.")]) == ""
    said = prompts.with_findings([HumanMessage("Why?")], [("search", "So.")])
    assert prompts.asked_in(said) == "Why?"
    assert Prompts(findings="").asked_in([HumanMessage("Why?")]) == "Why?"
