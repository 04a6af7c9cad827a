"""A small English grammar that generates three tasks, without data files or network.

They are modelled on CoLA, MRPC and STS-B. A bag of words does not solve them:

    acceptability   every sentence has one singular and one plural noun; it is acceptable if the verb agrees with
                    its subject and the words are in order
    paraphrase      some words are replaced by synonyms or by other words; or the voice is changed, with or without
                    exchanging subject and object
    similarity      0 to 5: how many of the five parts of two sentences have the same meaning
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from msplora_core.training.data.examples import Examples

SIZES = {"train": 400, "dev": 200}
_SEEDS = {"train": 1, "dev": 2}

# Each line holds synonyms; singular then plural for nouns; third person, base and participle for verbs.
_PEOPLE = (
    (("doctor", "doctors"), ("physician", "physicians")),
    (("teacher", "teachers"), ("instructor", "instructors")),
    (("child", "children"), ("kid", "kids")),
    (("lawyer", "lawyers"), ("attorney", "attorneys")),
    (("writer", "writers"), ("author", "authors")),
    (("policeman", "policemen"), ("cop", "cops")),
    (("dog", "dogs"), ("hound", "hounds")),
    (("thief", "thieves"), ("robber", "robbers")),
    (("soldier", "soldiers"), ("trooper", "troopers")),
    (("king", "kings"), ("monarch", "monarchs")),
    (("friend", "friends"), ("companion", "companions")),
    (("sailor", "sailors"), ("seaman", "seamen")),
)
_VERBS = (
    (("helps", "help", "helped"), ("assists", "assist", "assisted")),
    (("chases", "chase", "chased"), ("pursues", "pursue", "pursued")),
    (("phones", "phone", "phoned"), ("telephones", "telephone", "telephoned")),
    (("frightens", "frighten", "frightened"), ("scares", "scare", "scared")),
    (("praises", "praise", "praised"), ("compliments", "compliment", "complimented")),
    (("rescues", "rescue", "rescued"), ("saves", "save", "saved")),
    (("annoys", "annoy", "annoyed"), ("irritates", "irritate", "irritated")),
    (("greets", "greet", "greeted"), ("welcomes", "welcome", "welcomed")),
    (("watches", "watch", "watched"), ("observes", "observe", "observed")),
    (("deceives", "deceive", "deceived"), ("tricks", "trick", "tricked")),
)
_ADJECTIVES = (
    ("happy", "glad"),
    ("rich", "wealthy"),
    ("clever", "smart"),
    ("tired", "exhausted"),
    ("famous", "renowned"),
    ("brave", "courageous"),
    ("angry", "furious"),
    ("silent", "quiet"),
    ("odd", "strange"),
    ("tiny", "small"),
)
_PLACES = (
    ("street", "road"),
    ("woods", "forest"),
    ("shop", "store"),
    ("airport", "airfield"),
    ("ship", "boat"),
    ("house", "home"),
    ("jail", "prison"),
    ("church", "chapel"),
)
_PARTS = (_PEOPLE, _ADJECTIVES, _VERBS, _PEOPLE, _PLACES)  # subject, its adjective, verb, object, place
_WORDINGS = 2  # of every meaning
_TURNED = 0.25  # share of paraphrases that turn the voice


@dataclass(frozen=True)
class Sentence:
    """A sentence of five parts: subject, its adjective, verb, object, place.

    Args:
        meanings: of the parts: indices of lines in the word lists.
        wordings: of the parts: indices of words in these lines.
        plural: whether the subject is plural; the object has the other number.
        passive: whether the voice is passive.
        fronted: whether the place comes first.
    """

    meanings: tuple[int, ...]
    wordings: tuple[int, ...]
    plural: bool
    passive: bool = False
    fronted: bool = False

    def words(self) -> list[str]:
        """Return the words, in order."""
        subject, adjective, verb, thing, place = self.meanings
        subject_word, adjective_word, verb_word, thing_word, place_word = self.wordings
        forms = _VERBS[verb][verb_word]
        doer = ["the", _ADJECTIVES[adjective][adjective_word], _PEOPLE[subject][subject_word][self.plural]]
        other = ["the", _PEOPLE[thing][thing_word][not self.plural]]
        if self.passive:
            clause = [*other, "is" if self.plural else "are", forms[2], "by", *doer]
        else:
            clause = [*doer, forms[self.plural], *other]
        where = ["near", "the", _PLACES[place][place_word]]
        return [*where, *clause] if self.fronted else [*clause, *where]

    def turned(self, *, same: bool) -> Sentence:
        """Return the sentence in the other voice, with the same agent or with agent and patient exchanged."""
        if same:
            return replace(self, passive=not self.passive)
        subject, adjective, verb, thing, place = self.meanings
        subject_word, adjective_word, verb_word, thing_word, place_word = self.wordings
        return replace(
            self,
            meanings=(thing, adjective, verb, subject, place),
            wordings=(thing_word, adjective_word, verb_word, subject_word, place_word),
            plural=not self.plural,
            passive=not self.passive,
        )


def generate(task: str, split: str, count: int | None = None) -> Examples:
    """Return the examples of a generated task, with fixed seeds.

    Args:
        task: `acceptability`, `paraphrase` or `similarity`.
        split: `train` or `dev`.
        count: number of examples; by default as in `SIZES`.

    Example:
        >>> examples = generate("acceptability", "train", 2)
        >>> [len(texts) for texts in examples.texts], examples.labels
        ([1, 1], [0, 1])
    """
    random = np.random.default_rng((_SEEDS[split], sorted(_MAKERS).index(task)))
    examples = Examples([], [])
    for place in range(count or SIZES[split]):
        texts, label = _MAKERS[task](random, place)
        examples.texts.append(tuple(" ".join(words).capitalize() + "." for words in texts))
        examples.labels.append(label)
    return examples


def _sentence(random: np.random.Generator) -> Sentence:
    subject, adjective, verb, thing, place = (int(random.integers(len(part))) for part in _PARTS)
    if thing == subject:
        thing = (thing + 1 + int(random.integers(len(_PEOPLE) - 1))) % len(_PEOPLE)
    wordings = tuple(random.integers(_WORDINGS, size=len(_PARTS)).tolist())
    return Sentence((subject, adjective, verb, thing, place), wordings, *(random.random(3) < 0.5).tolist())


def _acceptability(random: np.random.Generator, place: int) -> tuple[list[list[str]], int]:
    words = _sentence(random).words()
    good = place % 2
    if good:
        return [words], 1
    return [_wrong_number(words) if random.random() < 0.5 else _wrong_order(words, random)], 0


def _wrong_number(words: list[str]) -> list[str]:
    """Return the same words, except that the verb agrees with the other noun."""
    other = {"is": "are", "are": "is"}
    for lines in _VERBS:
        for third, base, _ in lines:
            other |= {third: base, base: third}
    place = next((i for i, word in enumerate(words) if word in ("is", "are")), None)
    if place is None:
        place = next(i for i, word in enumerate(words) if word in other)
    return [*words[:place], other[words[place]], *words[place + 1 :]]


def _wrong_order(words: list[str], random: np.random.Generator) -> list[str]:
    """Return the same words with an article after its word instead of before it."""
    articles = [i for i, word in enumerate(words[:-1]) if word == "the"]
    place = articles[int(random.integers(len(articles)))]
    return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]


def _paraphrase(random: np.random.Generator, place: int) -> tuple[list[list[str]], int]:
    first = _sentence(random)
    same = place % 2 == 1
    if random.random() < _TURNED:
        return [first.words(), first.turned(same=same).words()], int(same)
    second = replace(first, fronted=bool(random.random() < 0.5))
    for part in random.permutation(len(_PARTS))[:2]:
        second = _reworded(second, part) if same else _other_meaning(second, part, random)
    return [first.words(), second.words()], int(same)


def _similarity(random: np.random.Generator, place: int) -> tuple[list[list[str]], float]:
    shared = place % (len(_PARTS) + 1)
    first = _sentence(random)
    second = replace(first, fronted=bool(random.random() < 0.5))
    for count, part in enumerate(random.permutation(len(_PARTS))):
        if count >= shared:
            second = _other_meaning(second, part, random)
        elif random.random() < 0.5:
            second = _reworded(second, part)
    return [first.words(), second.words()], float(shared)


def _reworded(sentence: Sentence, part: int) -> Sentence:
    wordings = list(sentence.wordings)
    wordings[part] = (wordings[part] + 1) % _WORDINGS
    return replace(sentence, wordings=tuple(wordings))


def _other_meaning(sentence: Sentence, part: int, random: np.random.Generator) -> Sentence:
    meanings = list(sentence.meanings)
    size = len(_PARTS[part])
    meanings[part] = (meanings[part] + 1 + int(random.integers(size - 1))) % size
    return replace(sentence, meanings=tuple(meanings))


_MAKERS: dict[str, Callable[[np.random.Generator, int], tuple[list[list[str]], int | float]]] = {
    "acceptability": _acceptability,
    "paraphrase": _paraphrase,
    "similarity": _similarity,
}
