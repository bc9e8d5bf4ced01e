# ruff: noqa: RUF001 - several alphabets
"""How lengths are asked for in thirteen languages: expressions for `wish`, all without regard to case.

English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Swedish, Russian, Chinese, Japanese and
Korean.
"""

from __future__ import annotations

from typing import Final


def any_of(*phrases: str) -> str:
    """An expression for one of the phrases, which commas part; the longest first."""
    each = sorted((p for line in phrases for p in line.split(", ")), key=len, reverse=True)
    return "(?:" + "|".join(each).replace(" ", r"\s+") + ")"


_WORDS = any_of(
    "words?, wörtern?, worten?, woertern?, mots?, palabras?, palavras?, parol[ae], woorden, ord",
    "s[łl][óo]w(?:a|ach)?, слов(?:а|ах)?",
)
UNIT = (
    rf"[\s-]*(?:{_WORDS}(?!\w)"
    r"|[个個]?(?:单词|單詞|词|詞)|単?語|단어|(?P<signs>文字|[个個]?字(?![节節符母典体體]))|(?P<syllables>글자|자(?![리루녀동])))"
)
HAN = "一二两三四五六七八九十百千万"
FIGURES = (
    r"\d{1,3}(?:[., '’\u00a0\u202f]\d{3}){1,2}(?!\d)|\d{1,6}(?!\d)"
    rf"|(?<![{HAN}])[{HAN}]{{1,12}}(?=[个個]?[字词詞])"
)
TO = any_of(
    "-, –, —, ~, 〜, to, bis, à, a, al, and, und, et, y, e, i, en, tot, do, och, и, 至, 到, から",
)
RANGE = rf"(?<![\d.,])(?P<first>{FIGURES})(?:\s*{TO}\s*(?P<last>{FIGURES}))?"
AMOUNT = RANGE + UNIT
NEAR = any_of(
    r"about, around, approximately, approx\.?, roughly, some, exactly, circa, ca\.?, only, just",
    "a total of, etwa, ungefähr, rund, genau, zirka, environ, unas, unos, aproximadamente",
    r"alrededor de, cerca de, umas, ongeveer, zo'n, około, ok\., ungefär, cirka, около, примерно",
    "приблизительно, 大约, 大約, 大概, 约, 約, およそ, 약, 대략",
)
IN = any_of(
    "in, within, at most, at least, up to, (?:no|not|never) (?:more|fewer|less|longer) than",
    "between, under, below, fewer than, less than, shorter than, not over",
    r"max(?:imum)?\.?(?: of)?, min(?:imum)?\.?(?: of)?",
    r"(?:not|n't|never|nicht) (?:to )?exceed(?:ing)?, (?:not|n't|never) \w+ more than, use, using",
    r"(?:answer|respon[ds]e?|reply|write)\w*(?: \w+)? (?:with|using)",
    r"(?:limit|keep|shorten|cut|reduce|condense|restrict|expand|extend|stick|aim)\b[^.!?]{0,40}? (?:to|at)",
    "(?:should|must|shall|can|may) (?:be|have|contain|take), soll(?:te|en)?, muss, darf",
    "doit (?:faire|avoir), debe tener, deve (?:avere|ter), moet, должн[аоы]? (?:быть|содержать)",
    r"(?:be)?antworte(?: \w+)? mit, auf, höchstens, maximal, mindestens, bis zu, nicht mehr als",
    "weniger als, unter, zwischen, en, dans, au plus, au maximum, au moins, moins de, pas plus de",
    "jusqu'à, entre, como máximo, máximo(?: de)?, no más de, menos de, hasta, al menos",
    "al massimo, massimo, non più di, meno di, fino a, almeno, tra, fra, em, no máximo, até",
    "não mais (?:de|que), pelo menos, hoogstens, maximaal, ten hoogste, niet meer dan, minder dan",
    "minstens, tussen, w, do, maksymalnie, najwyżej, nie więcej niż, mniej niż, co najmniej",
    "między, i, på, högst, maximalt, inte mer än, färre än, mindre än, minst, mellan, в, до, на",
    "не более(?: чем)?, не больше(?: чем)?, менее, максимум",
)
IN_SIGNS = any_of(
    "用, 以, 在, 不超过, 不超過, 不多于, 不少于, 不得超过, 少于, 至少, 最多, 控制在, 限制在, 限",
    "最大, 최대, 최소",
)
AFTER = any_of(
    "or (?:less|fewer|more|so), max(?:imum)?, at most, at least, long, in length, tops, lang",
    "maximal, höchstens, au plus, au maximum, environ, como máximo, máximo, aproximadamente",
    "o menos, al massimo, circa, no máximo, maximaal, maksymalnie, högst, максимум",
)
AFTER_SIGNS = any_of(
    "左右, 上下, 以内, 以內, 之内, 之內, 以上, 以下, 内, 的, で(?!す), 程度, くらい, ぐらい",
    "ほど, 前後, の, 으로, 로, 이내, 내외, 정도, 이상",
    "이하, 분량, 짜리, 의",
)
OF = any_of(
    "of, with, in, containing, at, about, von, mit, de, d'environ, d'au plus, con, di, da, com",
    "met, van, na, o długości, på, med, i, w, из, в, на, объ[её]мом(?: в)?",
)
TEXTS = any_of(
    "essays?, articles?, answers?, responses?, replies, reply, summar(?:y|ies), texts?",
    "stor(?:y|ies), posts?, paragraphs?, descriptions?, explanations?, overviews?, reports?",
    "speech(?:es)?, letters?, e-?mails?, reviews?, abstracts?, introductions?, guides?",
    "analys[ei]s, papers?, notes?, statements?, scripts?, outlines?, tales?, poems?, comparisons?",
    "discussions?, pieces?, biograph(?:y|ies), bios?, profiles?, columns?, versions?, messages?",
    "proposals?, tutorials?, accounts?, briefs?, plans?, histor(?:y|ies), sections?, chapters?",
    "pitch(?:es)?, scenes?, aufs[aä]tze?, texte[ns]?, antwort(?:en)?, artikels?",
    r"zusammenfassung(?:en)?, bericht\w*, geschichten?, beitr[aä]ge?, beschreibung(?:en)?",
    "erklärung(?:en)?, überblick, übersicht, rede, briefe?s?, gedichte?, textes?, essais?",
    "réponses?, résumés?, rédaction, dissertation, histoires?, rapports?, lettres?, discours",
    "explications?, ensayos?, textos?, artículos?, respuestas?, resúmen(?:es)?, resumen",
    "redacción, historias?, informes?, cartas?, discursos?, descripción, explicación, cuentos?",
    "saggio?, test[io], articol[oi], rispost[ae], riassunt[oi], tema, stori[ae], relazione",
    "letter[ae], discorso, descrizione, spiegazione, sintesi, ensaios?, artigos?, respostas?",
    "resumos?, redação, histórias?, relatórios?, descrição, explicação, teksten, tekst, opstel",
    r"antwoord, samenvatting, verhaal, verslag, beschrijving, uitleg, esej, artykuł, odpowied\w+",
    "streszczenie, wypracowanie, opowiadanie, raport, opis, uppsats, svar, sammanfattning",
    r"berättelse, brev, beskrivning, essä, эссе, текст\w*, стать[юяи], ответ\w*, сочинени\w+",
    r"рассказ\w*, отч[её]т\w*, письм\w+, описани\w+, изложени\w+, резюме, доклад\w*, объяснени\w+",
)
TEXT = rf"(?P<text>{TEXTS})(?!\w)"
ASK = any_of(
    "write, explain, describe, summari[sz]e, answer, tell, compare, discuss, outline, define",
    "list, state, give, provide, draft, compose, produce, create, prepare, make, generate, craft",
    "develop, respond, reply, introduce, sketch, analy[sz]e, evaluate, review, argue, show",
    "present, teach, suggest, name, identify, pick, use, keep, limit, be, stay, rewrite, rephrase",
    "shorten, condense, expand, translate, report, justify, elaborate, cover, help, recommend",
    "propose, design, alter, ensure, aim, stick, restrict, do not, don['’]t, never, always, try",
    r"return, output, say, talk, schreib\w*, erklär\w*, beschreib\w*, fass\w*, nenn\w*",
    r"vergleich\w*, erläuter\w*, schilder\w*, antworte\w*, beantwort\w*, gib, geben?, erstell\w*",
    r"verfass\w*, analysier\w*, diskutier\w*, stellen?, skizzier\w*, formulier\w*, sagen?, zeigen?",
    r"begründe\w*, halten?, nutzen?, verwende\w*, begrenze\w*, mache?, erzähl\w*, entwirf, bitte",
    r"écri\w+, expli\w+, décri\w+, résum\w+, répon\w+, compar\w+, donne\w*, rédige\w*, présente\w*",
    r"analyse\w*, défini\w+, raconte\w*, soi[st], soyez, limite\w*, fai[st], faites, utilise\w*",
    r"escrib\w+, describ\w+, resum\w+, respond\w+, dame, redact\w+, analiz\w+, defin\w+, cuenta\w*",
    r"haz, haga, usa, sé, sea, scriv\w+, spieg\w+, descriv\w+, riassum\w+, rispond\w+, confront\w+",
    r"dammi, redig\w+, analizz\w+, raccont\w+, sii, sia, escrev\w+, descrev\w+, dê, redij\w+",
    "conte, faça, seja, schrijf, leg, beschrijf, vat, vergelijk, geef, maak, vertel, houd?, noem",
    r"bespreek, gebruik, wees, napisz\w*, wyjaśnij\w*, opisz\w*, streść\w*, odpowiedz\w*",
    r"porównaj\w*, podaj\w*, stwórz\w*, opowiedz\w*, przedstaw\w*, omów\w*, skriv, förklara",
    r"beskriv, sammanfatta, svara, jämför, ge, berätta, redogör, håll, diskutera, напиши\w*",
    r"объясни\w*, опиши\w*, расскажи\w*, ответь\w*, сравни\w*, дай\w*, составь\w*, сделай\w*",
    r"перечисли\w*, изложи\w*, отвечай\w*, будь\w*",
)
WRITE = any_of(
    r"write, draft, compose, produce, generate, need, want, like, schreib\w*, verfass\w*, écri\w+",
    r"rédige\w*, escrib\w+, redact\w+, scriv\w+, escrev\w+, schrijf, napisz\w*, skriv, напиши\w*",
    "写, 寫, 書",
)
REQUEST = any_of(
    "(?:can|could|would|will) you, (?:i|we) (?:need|want|would like), (?:i|we)['’]d like, you",
    "your, you['’]re, (?:kannst|könntest) du, (?:können|könnten) sie",
    "ich (?:brauche|möchte|hätte), deine?, peux-tu, pouvez-vous, pourri?ez-vous, pourrais-tu",
    "je (?:veux|voudrais), j['’]ai besoin, tu, vous, ¿?puedes, ¿?podrías, quiero, necesito",
    "me gustaría, puoi, potresti, vorrei, voglio, ho bisogno, você, pode, poderia, quero, preciso",
    "gostaria, kun je, kunt u, zou je, ik wil, czy możesz, możesz, potrzebuję, chcę",
    r"chciał[ab]\w+, kan du, jag (?:vill|behöver), можешь, можете, мне нужн\w+, я хочу",
)
POLITE = any_of(
    "please, now, then, also, and, so, hi, hello, bitte, nun, und, s'il (?:te|vous) plaît, et",
    "por favor, y, per favore",
)
SUBJECT = (
    rf"(?:(?:the|your|this|each|every|all|die|der|deine|jede\w*|la|el|il|de|het)\s+)?(?:[\w-]+\s+)?{TEXTS}"
    r"\s+(?:should|must|shall|may|can|needs?|has to|soll\w*|muss|darf|doit|debe|deve|moet)"
    r"|(?:it|this|they)\s+(?:should|must)"
)
ORDER_SIGNS = any_of(
    "请, 請, 写, 寫, 用, 介绍, 介紹, 解释, 解釋, 说明, 說明, 总结, 概括, 描述, 回答, 谈谈, 分析",
    "比较, 论述, 讲, ください, 下さい, せよ, なさい",
    "して, 書, 説明, 教え, 述べ, まとめ, 答え, 要約, 줘, 주세요, 하라, 시오, 써, 설명, 요약",
    "알려, 답, 작성, 쓰",
)
EACH = any_of(
    r"each, every, jede\w*, jeweils, chaque, chacun\w*, cada, ogni, ciascun\w*, elke?, każd\w*",
    r"varje, vardera, кажд\w+, 每, 各, apiece",
    "per (?:part|section|paragraph|item|point|answer|chapter|story|topic|step|text)",
)
COUNTS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COUNT = rf"(?P<count>\d{{1,2}}|{'|'.join(COUNTS[1:])})\s+"
WITH = any_of("with, mit, avec, con, com, met, med")
ON = any_of(
    "on, about, explaining, describing, over, über, sur, sobre, su, sulla, om, о, об",
)
ELSEWHERE = any_of(
    "for, on, about, to, how, into, from, of, für, über, pour, sur, para, sobre, per, su, voor",
    "over, dla, o, om, для, о",
)
GIVEN = any_of("my, this, that, these, those, his, her, their")
LENGTH = any_of(
    "length, limit, länge, umfang, longueur, extensión, longitud, lunghezza, comprimento, lengte",
    "długość, längd, объ[её]м, длина, 분량",
)
WORD_COUNT = any_of(
    "words, word count, word limit, wörter, wortzahl, mots, palabras, parole, palavras, woorden",
    "słowa, ord, слов",
)
SIGN_COUNT = any_of("字数, 字數, 文字数")
SYLLABLE_COUNT = any_of("글자 ?수")
NO_WISH = any_of(
    "of, that, every, which, from, who, you, i, we, they, have, were, are, is",
    "(?:a|per) (?:day|hour|minute|second|page|line)",
)
BRIEFLY = any_of(
    "briefly, concisely, succinctly, kurz, knapp, brièvement, brevemente, breve, bref, kort",
    "beknopt, krótko, zwięźle, kortfattat, кратко, коротко, вкратце",
)
IN_BRIEF = any_of(
    "in a nutshell, in brief, in (?:just )?(?:a )?few (?:words|sentences|lines), kurz und knapp",
    "in aller kürze, en bref, en quelques mots, en resumen, en pocas palabras, in breve",
    "in poche parole, em poucas palavras, em resumo, in het kort, w skrócie, w kilku słowach",
    "i korthet, в двух словах",
)
BRIEF_SIGNS = any_of(
    "简要, 简短, 简洁, 简明, 简述, 简单地?(?:介绍|说明|解释|描述|谈谈|回答), 簡潔に, 手短に",
    "簡単に, 简潔に, 간단히, 간단하게, 간략히, 간략하게",
    "간결하게, 짧게",
)
SHORT_TEXT = any_of(
    "answers?, respon[sc]es?, repl(?:y|ies), explanations?, summar(?:y|ies), overviews?",
)
BRIEF_KIND = any_of(
    r"brief, concise, kurze\w*, knappe\w*, breve, brève, krótk\w+, кратк\w+, korte?, kortfattad",
)
BRIEF_BEHIND = any_of(
    "breves?, brèves?, courte?s?, cortas?, curtas?, corte?, concis[ao]?e?s?",
)
IN_DETAIL = any_of(
    "in (?:great |full |more |some |considerable |much )?detail, in[- ]depth, at length",
    r"im detail, en détail, ausführlich\w*, detailliert\w*, détaillée?s?, en detalle, detallad\w+",
    r"in dettaglio, dettagliat\w+, em detalhes?, detalhad\w+, uitgebreid\w*, szczegółow\w+",
    r"i detalj, utförlig\w*, подробн\w+, детальн\w+",
)
DETAIL_SIGNS = any_of(
    "详细, 详尽, 詳細, 詳しく, 자세히, 자세하게, 상세히, 상세하게",
)
THOROUGHLY = "(?:thoroughly|comprehensively|extensively)"
THOROUGH = "(?:comprehensive|thorough|extensive)"
