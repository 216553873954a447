"""Stage one, data: the words that synthetic segments are made of (`mdm.data.synthetic`).

Kinds of words: function words, sentiment words of four degrees, and topic nouns on `AXES` axes of two
poles each. Every word belongs to one kind, so that a kind can be read off a sentence.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

FUNCTION = """the a an and or but if so as of to in on at by for from with about into over after before while that this these
those it its he she they we you i me him her them us my your his our their is are was were be been have has had do does did
will would can could should may might not no there here then when where what who how very just also only really quite some
any each every both more most other such than too again still"""

SENTIMENT = [
    # negative weak, negative strong, positive weak, positive strong
    "boring slow weak dull flat confusing predictable forgettable uneven tired shallow awkward clumsy bland messy lacking",
    "terrible awful horrible disgusting dreadful pathetic atrocious abysmal disastrous unbearable hateful worst worthless "
    "appalling painful miserable",
    "nice good fine pleasant decent enjoyable likable solid sweet funny clever charming watchable warm neat fresh",
    "amazing wonderful brilliant fantastic excellent perfect superb outstanding magnificent incredible best stunning "
    "gorgeous masterful awesome marvelous",
]

TOPICS = [
    # one axis per pair of lines
    "street traffic tower subway sidewalk apartment downtown taxi skyline office",
    "farm meadow barn village orchard field tractor haystack fence pasture",
    "ocean sailor harbor wave beach anchor island fisherman lighthouse reef",
    "summit cliff glacier ridge climber valley avalanche boulder trail peak",
    "sunshine swimsuit picnic lemonade july barbecue sandals heat holiday garden",
    "snow sled icicle december scarf blizzard fireplace mittens frost sleigh",
    "guitar melody drummer concert chorus piano singer rhythm orchestra album",
    "canvas brush portrait gallery sculpture easel palette sketch mural museum",
    "oven recipe soup butter chef spoon pastry onion kettle bakery",
    "hammer screwdriver plank engine wrench nail carpenter workshop drill bolt",
    "stadium referee goal coach athlete tennis trophy league racket sprint",
    "novel chapter library poet author paragraph bookshelf essay diary publisher",
    "horse puppy eagle lion kitten wolf rabbit feather paw herd",
    "robot computer circuit keyboard satellite laser software gadget battery antenna",
    "teacher classroom homework pupil exam blackboard lesson campus diploma notebook",
    "doctor nurse surgery clinic ambulance patient bandage medicine pharmacy ward",
]

AXES = len(TOPICS) // 2
SENTIMENT_KIND = 1
TOPIC_KIND = SENTIMENT_KIND + len(SENTIMENT)
"""Kind 0 is function words; then the four degrees of sentiment; then the poles: axis j has TOPIC_KIND + 2j and + 2j + 1."""

KINDS: tuple[tuple[str, ...], ...] = tuple(tuple(words.split()) for words in (FUNCTION, *SENTIMENT, *TOPICS))
VOCABULARY = ("<pad>", "<unk>", *sorted(word for words in KINDS for word in words))
"""The whole lexicon, sorted, whatever words a draw happens to hold: ids do not depend on the draw."""

ID = {word: i for i, word in enumerate(VOCABULARY)}
SIZES = np.array([len(words) for words in KINDS])
STARTS = np.cumsum(SIZES) - SIZES
IDS = np.array([ID[word] for words in KINDS for word in words], dtype=np.int32)
"""Ids of the words in the order of their kinds: kind k has SIZES[k] of them from STARTS[k] on."""


def sentences(
    valence: Float[np.ndarray, " n"],
    topics: Float[np.ndarray, "n axes"],
    lengths: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " steps"]:
    """Word ids of n sentences of given lengths, end to end, drawn word by word.

    valence: what the sentiment words tell
    topics: the position on each of the first axes, what the nouns tell

    A word is, with probability 0.25, of sentiment: positive with probability σ(4 valence), strong with
    σ(3 (|valence| − 1)); with 0.6, a noun of a uniformly drawn axis, of that axis' second pole with
    σ(6 topic); else a function word. Within its kind it is uniform.
    """
    row = np.repeat(np.arange(len(lengths)), lengths)
    which, axis, pole, strength, pick = rng.random((5, len(row)))
    v = valence[row]
    degree = 2 * (pole < sigmoid(4 * v)) + (strength < sigmoid(3 * (np.abs(v) - 1)))
    drawn = (axis * topics.shape[1]).astype(np.int64)
    noun = 2 * drawn + (pole < sigmoid(6 * topics[row, drawn]))
    kind = np.select([which < 0.25, which < 0.25 + 0.6], [SENTIMENT_KIND + degree, TOPIC_KIND + noun], 0)
    return IDS[STARTS[kind] + (pick * SIZES[kind]).astype(np.int64)]


def sigmoid(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return 1 / (1 + np.exp(-x))
